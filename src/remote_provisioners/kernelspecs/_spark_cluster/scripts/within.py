"""Of kernels in a container of YARN. Standard library only."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent():
    """Have the kernel end with the agent: what the container is given back for must not go on."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
