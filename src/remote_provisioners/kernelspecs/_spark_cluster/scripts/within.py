"""Of kernels in a container of YARN. Python's standard library, and for ipykernel's that."""

import argparse
import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent():
    """Have the kernel end with the agent: what the container is given back for must not go on."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def be_kernel(**traits):
    """Run a kernel of ipykernel's, with Spark, as argv says. `traits`: of IPKernelApp."""
    parser = argparse.ArgumentParser()
    parser.add_argument("connection_file")
    modes = ("lazy", "eager", "none")
    parser.add_argument("--spark-context-initialization-mode", dest="mode", choices=modes)
    arguments, _ = parser.parse_known_args()
    end_with_parent()
    import spark_session
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(**traits)
    app.initialize(["-f", arguments.connection_file])
    # YARN ends an application whose driver has no session: it is made at once, behind the kernel.
    spark_session.install(app.kernel, arguments.mode or "eager")
    app.start()
    spark_session.stop()
