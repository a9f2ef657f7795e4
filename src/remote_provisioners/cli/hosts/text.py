"""The table of hosts as text."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..table import columns
from .status import HostStatus

_HEADER = (
    "HOST",
    "STATE",
    "SINCE",
    "KERNELS",
    "LOAD",
    "MEMORY",
    "GPUS",
    "AGENT",
    "PYTHON",
    "RUNS SINCE",
    "CONNECTED IN",
    "LAST ERROR",
)
_NOTHING = "-"


def table(statuses: Sequence[HostStatus]) -> list[str]:
    """A header and one line for each host."""
    return columns([_HEADER, *map(_row, statuses)])


def summary(statuses: Sequence[HostStatus]) -> str:
    return f"{_moment(time.time())}  {sum(s.up for s in statuses)} of {len(statuses)} hosts up"


def _row(status: HostStatus) -> tuple[str, ...]:
    return (
        status.host,
        status.state,
        _moment(status.since),
        *(_load(status) if status.load else [_NOTHING] * 3),
        f"{len(status.gpus_given)} of {len(status.gpus)}" if _tells_gpus(status) else _NOTHING,
        status.digest[:8] or _NOTHING,
        str(status.agent.get("python", _NOTHING)),
        _moment(status.agent.get("since")),
        _NOTHING if status.connecting is None else f"{1000 * status.connecting:.0f} ms",
        _error(status),
    )


def _tells_gpus(status: HostStatus) -> bool:
    return bool(status.gpus and status.load)


def _load(status: HostStatus) -> tuple[str, str, str]:
    """Kernels, load, memory."""
    load = status.load
    gib = 1024**3
    memory = f"{load['memory_available'] / gib:.1f} of {load['memory'] / gib:.1f} GiB"
    return (
        f"{load['mine']} of {load['kernels']}",
        f"{load['load']:.2f} of {load['cores']}",
        memory if load["memory"] else _NOTHING,
    )


def _error(status: HostStatus) -> str:
    if status.up and status.failed is not None:
        return f"{_moment(status.failed)}: {status.error}"
    return status.error


def _moment(moment: float | None) -> str:
    """The time, with the date if it is not today."""
    if moment is None:
        return _NOTHING
    then = time.localtime(moment)
    if then[:3] == time.localtime()[:3]:
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%Y-%m-%d %H:%M", then)
