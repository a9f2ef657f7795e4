"""Who is ended first when the host runs out of memory: a kernel, not the agent of all of them.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

_APART = 100
_HIGHEST = 1000


def spare_agent() -> int:
    """Have the agent be ended later than it would be, where that is allowed.

    Returns the value for its kernels (oom_score_adj): the one that it had itself, or where it may
    not lower its own, which takes a capability, a higher one.
    """
    try:
        with open("/proc/self/oom_score_adj") as file:
            value = int(file.read())
    except (OSError, ValueError):
        return 0
    return value if _write("self", max(-_HIGHEST, value - _APART)) else value + _APART


def expose(pid: int, value: int) -> None:
    """A kernel gets this value."""
    _write(str(pid), min(_HIGHEST, value))


def _write(process: str, value: int) -> bool:
    try:
        with open("/proc/{}/oom_score_adj".format(process), "w") as file:
            file.write(str(value))
    except OSError:
        return False
    return True
