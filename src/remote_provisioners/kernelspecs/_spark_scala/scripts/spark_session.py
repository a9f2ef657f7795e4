"""The functions that launchers of ipykernel call for a kernel with Spark; here for Scala."""

_kernels = []


def install(kernel, mode):
    """Give the kernel `spark` and `sc`. The launcher calls this once."""
    _kernels.append(kernel)
    kernel.open(mode)


def stop():
    """Remove everything from the engine. The launcher calls this when the kernel ends."""
    for kernel in _kernels:
        kernel.close()
