"""The table of kernels as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..table import columns
from .found import FoundKernel

_HEADER = ("KERNEL", "HOST", "STATE", "AGE", "IDLE", "MEMORY", "PID", "LEASE LEFT", "NOTE")
_NOTHING = "-"
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def table(found: Sequence[FoundKernel]) -> list[str]:
    """A header and one line for each kernel."""
    return columns([_HEADER, *map(_row, found)])


def _row(kernel: FoundKernel) -> tuple[str, ...]:
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
        described["ended_by"],
    )


def duration(seconds: float | None) -> str:
    """A duration in short, such as 45 s or 2.5 h."""
    if seconds is None:
        return _NOTHING
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
