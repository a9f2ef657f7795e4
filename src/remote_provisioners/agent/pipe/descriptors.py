"""Waiting for descriptors and writing to them. Sent with host_end.py; standard library only."""

from __future__ import annotations

import fcntl
import os
import selectors
from collections import deque
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict

_PIPE_BYTES = 256 * 1024
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ; Python has the name since 3.10
_KEPT_BYTES = 1024 * 1024
#: POSIX allows 16 in one call, Linux 1024.
_MOST_PIECES = 16
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Descriptors:
    """The descriptors that we wait for, each with a function to call when it is ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._interests: Dict[int, int] = {}

    def watch(self, descriptor: int, interest: int, call: Callable[[int], None]) -> None:
        """Wait for `interest` (READ, WRITE or both); 0 stops waiting."""
        before = self._interests.get(descriptor, 0)
        if interest == before:
            return
        if not interest:
            self._selector.unregister(descriptor)
            del self._interests[descriptor]
            return
        if before:
            self._selector.modify(descriptor, interest, call)
        else:
            self._selector.register(descriptor, interest, call)
        self._interests[descriptor] = interest

    def close(self, descriptor: int) -> None:
        self.watch(descriptor, 0, nothing)
        os.close(descriptor)

    def wait(self, seconds: float) -> None:
        """Wait `seconds` at most, then call the functions of the descriptors that are ready."""
        for key, ready in self._selector.select(seconds):
            if self._interests.get(key.fd, 0) & ready:  # an earlier call may have closed it
                key.data(ready)


def nothing(ready: int) -> None:
    """Never called; stands where no function is needed."""


def enlarge_pipe(descriptor: int) -> None:
    """Give a pipe more room where the system can, so that its ends are woken less often.

    A large output then takes half of the CPU here. A still larger pipe leaves the CPU's cache.
    """
    try:
        fcntl.fcntl(descriptor, _SET_PIPE_SIZE, _PIPE_BYTES)
    except OSError:  # it is a socket, or the user's pipes have reached their common limit
        pass


def keep_freed_memory() -> None:
    """Let the C library keep some freed memory for the next buffer.

    By default glibc returns it to the kernel at once, and each new buffer is made of new pages,
    which took a third of the time of a large output. Freeing one block raises that limit
    (mallopt(3), M_MMAP_THRESHOLD). Other C libraries do not mind.
    """
    bytes(_KEPT_BYTES)


class Writer:
    """Writes to a descriptor as far as it has room, and keeps the rest."""

    def __init__(self, descriptor: int, on_written: Callable[[int], None]) -> None:
        self.descriptor = descriptor
        self.waiting: Deque[Any] = deque()
        self._on_written = on_written

    def write(self) -> None:
        """Write as much as there is room for. Raises OSError when nobody reads any more."""
        while self.waiting:
            try:
                size = os.writev(self.descriptor, list(islice(self.waiting, _MOST_PIECES)))
            except BlockingIOError:
                return
            self._on_written(size)
            while self.waiting and size >= len(self.waiting[0]):
                size -= len(self.waiting.popleft())
            if size:
                self.waiting[0] = memoryview(self.waiting[0])[size:]
                return
