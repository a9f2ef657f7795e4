"""The table of kernels as text."""

from __future__ import annotations

from collections.abc import Iterable

from ..table import GREEN, RED, YELLOW, Column, Table, Terminal
from .found import FoundKernel

_NOTHING = "-"
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def table(hosts: Iterable[str], terminal: Terminal) -> Table:
    """A table of the kernels of these hosts."""
    host = max((len(name) for name in hosts), default=0)
    colours = {"in use": GREEN, "left": YELLOW, "ended": RED}
    return Table(
        [
            Column("KERNEL", 36, least=8),
            Column("HOST", host),
            Column("STATE", 8, colours=colours),
            Column("AGE", 8, rank=2),
            Column("IDLE", 8),
            Column("MEMORY", 9),
            Column("PID", 7, rank=1),
            Column("LEASE LEFT"),
            Column("NOTE"),
        ],
        terminal,
    )


def row(kernel: FoundKernel) -> tuple[str, ...]:
    """The texts of a kernel's row in `table`."""
    described = kernel.described
    memory = described["memory"]
    return (
        kernel.kernel_id,
        kernel.host.name,
        kernel.state,
        duration(kernel.age),
        duration(described["idle"]),
        _NOTHING if memory is None else f"{memory / 1024**2:.0f} MiB",
        str(described["pid"] or _NOTHING),
        duration(described["lease_left"]) if kernel.running else _NOTHING,
        described["ended_by"] or note(kernel),
    )


def note(kernel: FoundKernel) -> str:
    """What an engine calls the kernel's node, and when it ends that."""
    if kernel.seconds_left is None:
        return kernel.job
    return f"{kernel.job} ends in {duration(kernel.seconds_left)}"


def duration(seconds: float | None) -> str:
    """A duration in short, such as 45 s or 2.5 h."""
    if seconds is None:
        return _NOTHING
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
