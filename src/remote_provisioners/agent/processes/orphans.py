"""Which process gets the processes that lose their parent.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import sys

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Make orphaned descendants our children, also before they exist. Returns whether they will be.

    A template's kernels are orphans of ours. Call this before the template forks the first one,
    or that one becomes a child of init.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes  # noqa: PLC0415 (not every agent needs it)

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False
