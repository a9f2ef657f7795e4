"""How many files the agent may open: each client of a kernel takes ten, the usual limit is 1024.

Kernels get the limit that a login has. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import resource
from typing import Tuple

_WANTED = 65536


def raise_limit() -> Tuple[int, int]:
    """Raise this process's limit as far as allowed. Returns the earlier one (soft, hard)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft, hard


def restore_limit(pid: int, limit: Tuple[int, int]) -> None:
    """Give a process that we have just started the limit that we had before."""
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
    except (AttributeError, OSError):
        pass  # not Linux, or it has ended already
