"""Memory and CPU time of kernels' process groups, and how long they have been idle.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from typing import Collection, Dict, NamedTuple, Optional, Tuple

#: A kernel that waits for its user takes less than this share of a core (some of its threads wake
#: up now and then), measured over this many seconds.
_BUSY_SHARE = 0.02
_SAMPLE_SECONDS = 10.0

# Fields of /proc/PID/stat, counted after the name: pgrp, utime .. cstime, rss.
_PGRP, _TIMES, _RSS = 2, slice(11, 15), 21


class Usage(NamedTuple):
    """`memory`: resident bytes; shared ones count for each process. `cpu`: seconds so far."""

    memory: int
    cpu: float


def usage_of(groups: Collection[int]) -> Dict[int, Usage]:
    """The usage of each process group. Groups without a process, or without /proc, are left out."""
    found: Dict[int, Usage] = {}
    if not groups:
        return found
    page, ticks = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    for name in _processes():
        try:
            with open("/proc/{}/stat".format(name), "rb") as file:
                # The name of a process may hold anything, also spaces and brackets.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has just ended
        group = int(fields[_PGRP])
        if group in groups and fields[0] not in (b"Z", b"X"):  # it has not ended
            so_far = found.get(group, Usage(0, 0.0))
            cpu = sum(map(int, fields[_TIMES])) / ticks
            found[group] = Usage(so_far.memory + int(fields[_RSS]) * page, so_far.cpu + cpu)
    return found


def _processes() -> Collection[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


class Idleness:
    """Since when each process group's CPU time has not grown notably. No I/O."""

    def __init__(self) -> None:
        # Each group: the time of its sample, its CPU time then, and when it was last busy.
        self._seen: Dict[int, Tuple[float, float, float]] = {}
        self._updated = 0.0

    def update(self, usage: Dict[int, Usage], now: float) -> None:
        """Note the present usage of all groups."""
        seen = {}
        for group, used in usage.items():
            at, cpu, busy = self._seen.get(group, (now, used.cpu, now))
            if used.cpu - cpu > _BUSY_SHARE * max(now - at, _SAMPLE_SECONDS):
                busy = now
            if now - at >= _SAMPLE_SECONDS or busy == now:
                at, cpu = now, used.cpu
            seen[group] = (at, cpu, busy)
        self._seen, self._updated = seen, now

    def seconds(self, group: int) -> Optional[float]:
        """How long it had been idle at the last update; None if unknown. Nobody knows what it has
        done since: a busy kernel would count as idle between two updates.
        """
        seen = self._seen.get(group)
        return None if seen is None else self._updated - seen[2]
