"""The limit of memory and disk for the stored output of all kernels.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import time
from typing import Callable, List, Optional

from ..apart import Begin, at_once
from ..machine import memory

#: The output may take 1/4 of the free memory and 1/2 of the free disk.
_SHARE_OF_MEMORY, _SHARE_OF_DISK = 4, 2
_LEAST_BYTES = 16 * 1024 * 1024
#: Above the first share of the limit we warn once; below the second, a warning may come again.
_NEAR, _FAR = 0.8, 0.5
_VALID_SECONDS = 1.0


class Spender:
    """The stored output of one kernel."""

    #: Bytes.
    memory_used: int
    disk_used: int

    def make_room(self) -> bool:
        """Use less disk. Returns False if that is impossible."""
        raise NotImplementedError

    def shrink(self) -> bool:
        """Use less memory. Returns False if that is impossible."""
        raise NotImplementedError


class Budget:
    """The limit of one agent. At the limit, the kernel that stores the most drops output.

    `directory`: where the files are; they count as memory if it is a tmpfs.
    `on_near`: called with a text when the limit is near.
    """

    def __init__(
        self,
        directory: str,
        on_near: Callable[[str], None] = lambda text: None,
        begin: Begin = at_once,
    ) -> None:
        """`begin` looks at the disk."""
        self.memory_used = self.disk_used = 0
        self._directory = directory
        self._on_near = on_near
        self._spenders: List[Spender] = []
        self._measured: Optional[float] = None
        self._memory = self._disk = 0
        self._told = False
        self._disk_is_memory = memory.is_in_memory(directory)
        self._begin = begin
        self._free, self._looks = _free(directory), False

    def add(self, spender: Spender) -> None:
        self._spenders.append(spender)

    def remove(self, spender: Spender) -> None:
        self._spenders.remove(spender)

    def count(self, in_memory: int, on_disk: int) -> None:
        self.memory_used += in_memory
        self.disk_used += on_disk

    def has_disk(self, size: int) -> bool:
        """Whether `size` more bytes may go to disk."""
        self._measure()
        return self.disk_used + size <= self._disk

    def fit(self) -> bool:
        """Enforce the limit. Returns False if a client has to read first."""
        if self.memory_used + self.disk_used < _LEAST_BYTES // 2:
            return True
        self._measure()
        while self.memory_used > self._memory or self.disk_used > self._disk:
            if self.disk_used > self._disk:
                by_size = sorted(self._spenders, key=lambda s: s.disk_used, reverse=True)
                helped = any(spender.make_room() for spender in by_size if spender.disk_used)
            else:
                by_size = sorted(self._spenders, key=lambda s: s.memory_used, reverse=True)
                helped = any(spender.shrink() for spender in by_size if spender.memory_used)
            if not helped:
                return False
        return True

    def _measure(self) -> None:
        """Measure what the host has left."""
        now = time.monotonic()
        if self._measured is not None and now - self._measured < _VALID_SECONDS:
            return
        self._measured = now
        available = memory.available()
        kept_in_memory = self.memory_used + (self.disk_used if self._disk_is_memory else 0)
        self._memory = max(_LEAST_BYTES, (available + kept_in_memory) // _SHARE_OF_MEMORY)
        if not self._looks:
            self._looks = True
            self._begin(lambda: _free(self._directory), self._looked)
        self._disk = (self._free + self.disk_used) // _SHARE_OF_DISK
        if self._disk_is_memory:
            self._disk = min(self._disk, max(0, self._memory - self.memory_used))
        self._tell()

    def _looked(self, free: int, error: Optional[BaseException]) -> None:
        self._looks, self._free = False, free or 0

    def _tell(self) -> None:
        bound = self._memory if self._disk_is_memory else self._memory + self._disk
        share = (self.memory_used + self.disk_used) / max(1, bound)
        if share >= _NEAR and not self._told:
            self._told = True
            text = (
                "{} MiB of output are kept for clients that are away or slow; "
                "at {} MiB the oldest is dropped"
            )
            used = self.memory_used + self.disk_used
            self._on_near(text.format(used >> 20, bound >> 20))
        elif share < _FAR:
            self._told = False


def _free(directory: str) -> int:
    """The free bytes of a disk; 0 if unknown."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
