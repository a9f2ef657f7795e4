"""Runs kernels in a YARN container. Standard library only, except ipykernel for its kernels."""

import argparse
import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent():
    """Let the kernel end with the agent: it must not go on when YARN takes back the container."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def be_kernel(**traits):
    """Run a kernel of ipykernel with Spark, as argv says. `traits` go to IPKernelApp."""
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
    # YARN ends an application whose driver has no session. So start to create it at once.
    spark_session.install(app.kernel, arguments.mode or "eager")
    app.start()
    spark_session.stop()
