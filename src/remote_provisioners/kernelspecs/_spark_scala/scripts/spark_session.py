"""What launchers of ipykernel ask for where a kernel has Spark, for that of Scala."""

_kernels = []


def install(kernel, mode):
    """Give it `spark` and `sc`. By the launcher, once."""
    _kernels.append(kernel)
    kernel.open(mode)


def stop():
    """Leave nothing in the engine. By the launcher, when the kernel ends."""
    for kernel in _kernels:
        kernel.close()
