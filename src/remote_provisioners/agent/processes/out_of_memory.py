"""Which process the system kills first when memory runs out: a kernel, not the kernels' agent.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

_APART = 100
_HIGHEST = 1000


def spare_agent() -> int:
    """Lower the agent's oom_score_adj where that is allowed: the system kills it later then.

    Returns the oom_score_adj for its kernels: the agent's own earlier value; or a higher one,
    where the agent may not lower its own (that needs a capability).
    """
    try:
        with open("/proc/self/oom_score_adj") as file:
            value = int(file.read())
    except (OSError, ValueError):
        return 0
    return value if _write("self", max(-_HIGHEST, value - _APART)) else value + _APART


def expose(pid: int, value: int) -> None:
    """Set a kernel's oom_score_adj to `value`."""
    _write(str(pid), min(_HIGHEST, value))


def _write(process: str, value: int) -> bool:
    try:
        with open("/proc/{}/oom_score_adj".format(process), "w") as file:
            file.write(str(value))
    except OSError:
        return False
    return True
