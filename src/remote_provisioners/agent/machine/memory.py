"""The memory that is still available: the machine's, or our control group's.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from typing import Dict, Iterator, Optional, Tuple

#: Files in a control group's directory: the limit and the usage, in versions 2 and 1.
_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def meminfo() -> Dict[str, int]:
    """The lines of /proc/meminfo in bytes."""
    try:
        with open("/proc/meminfo") as file:
            lines = [line.split() for line in file]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


def available() -> int:
    """Available bytes; 0 if unknown."""
    found = meminfo().get("MemAvailable", 0)
    for directory in _groups():
        for bound, used in _FILES:
            try:
                limit = int(_read(os.path.join(directory, bound)))
                found = min(found, max(0, limit - int(_read(os.path.join(directory, used)))))
            except (OSError, ValueError):  # not there, or "max"
                continue
    return found


#: Files in a control group's directory: the count of out-of-memory kills, and the limit.
_KILLS = (
    ("memory.events", "memory.max"),
    ("memory.oom_control", "memory.limit_in_bytes"),
)
_LIMIT = "it used more memory than its limit allows ({:.0f} MiB, of its control group)"
_SYSTEM = "the host ran out of memory, or a memory limit of this kernel was reached"


class MemoryKills:
    """Notices when the system has killed processes because memory ran out."""

    def __init__(self) -> None:
        self._seen: Dict[str, int] = {}
        self.note()

    def note(self) -> None:
        """Note the kills so far: they do not explain a later end."""
        self._seen = dict(_kills())

    def why(self) -> str:
        """Why the system may have killed a process that has just ended; "" if it has not."""
        before, self._seen = self._seen, dict(_kills())
        for place, count in self._seen.items():  # the innermost first
            if count > before.get(place, 0):
                if place == _VMSTAT:
                    return _SYSTEM
                for _, bound in _KILLS:
                    try:
                        return _LIMIT.format(int(_read(os.path.join(place, bound))) / 1024 / 1024)
                    except (OSError, ValueError):  # not there, or "max"
                        continue
        return ""


_VMSTAT = "/proc/vmstat"


def _kills() -> Iterator[Tuple[str, int]]:
    for directory in _groups():
        for counter, _ in _KILLS:
            count = _counted(os.path.join(directory, counter))
            if count is not None:
                yield directory, count
    count = _counted(_VMSTAT)  # of the whole machine, so of every group
    if count is not None:
        yield _VMSTAT, count


def _counted(path: str) -> Optional[int]:
    try:
        for line in _read(path).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None


def is_in_memory(directory: str) -> bool:
    """Whether files in `directory` are kept in memory (tmpfs)."""
    best: Tuple[str, str] = ("", "")
    path = os.path.realpath(directory)
    try:
        with open("/proc/self/mounts") as file:
            for line in file:
                _, place, kind = line.split(" ")[:3]
                place = place.replace("\\040", " ")
                inside = (path + "/").startswith(place.rstrip("/") + "/")
                if inside and len(place) >= len(best[0]):
                    best = (place, kind)
    except (OSError, ValueError):
        return False
    return best[1] in ("tmpfs", "ramfs")


def _groups() -> Iterator[str]:
    """The directories of our control group and of its parents, innermost first."""
    try:
        lines = _read("/proc/self/cgroup").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            root = "/sys/fs/cgroup" if not controllers else "/sys/fs/cgroup/memory"
            place = path.strip("/")
            while True:
                yield os.path.join(root, place)
                if not place:
                    break
                place = os.path.dirname(place)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
