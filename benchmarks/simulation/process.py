"""What this process uses: memory, CPU time, descriptors."""

from __future__ import annotations

import gc
import os
import resource
import time
from dataclasses import dataclass, field

from . import meter

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of memory, without what is only garbage."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def kernel_memory() -> int:
    """Bytes that the operating system keeps for everybody's files, sockets and the like."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["Slab"].split()[0]) * 1024


def raise_descriptor_limit() -> int:
    """As far as allowed; the limit."""
    with open("/proc/sys/fs/nr_open") as file:
        most = int(file.read())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):  # only root may raise the hard limit, and not everywhere
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def limit_memory(gigabytes: float) -> None:
    size = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


@dataclass
class Stopwatch:
    """Time since it was made: by the clock, and of the CPU less what the agents took."""

    _clock: float = field(default_factory=time.monotonic)
    _cpu: float = field(default_factory=lambda: time.process_time() - meter.agents.seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._clock

    @property
    def cpu_seconds(self) -> float:
        return time.process_time() - meter.agents.seconds - self._cpu
