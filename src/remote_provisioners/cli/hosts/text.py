"""The table of hosts as text."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from ..table import GREEN, RED, YELLOW, Column, Table, Terminal
from .status import DOWN, MISCONFIGURED, UNUSABLE, UP, HostStatus

_NOTHING = "-"


def table(names: Iterable[str], terminal: Terminal) -> Table:
    """A table of the hosts with these names."""
    name = max((len(name) for name in names), default=0)
    colours = {UP: GREEN, DOWN: RED, UNUSABLE: RED, MISCONFIGURED: YELLOW}
    return Table(
        [
            Column("HOST", name),
            Column("STATE", max(len(UNUSABLE), len(DOWN)), colours=colours),
            Column("SINCE", 8, rank=3),
            Column("KERNELS", 7),
            Column("LOAD", 10),
            Column("MEMORY", 16, rank=1),
            Column("GPUS", 4, rank=2),
            Column("AGENT", 8, rank=6),
            Column("PYTHON", 7, rank=5),
            Column("RUNS SINCE", 10, rank=6),
            Column("CONNECTED IN", rank=4),
            Column("LAST ERROR"),
        ],
        terminal,
    )


def summary(statuses: Sequence[HostStatus]) -> str:
    return f"{_moment(time.time())}  {sum(s.up for s in statuses)} of {len(statuses)} hosts up"


def row(status: HostStatus) -> tuple[str, ...]:
    """The texts of a host's row in `table`."""
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
