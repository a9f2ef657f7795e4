"""Waiting for descriptors and writing to them. Sent with pipe_end.py; standard library only."""

from __future__ import annotations

import os
import selectors
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict

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


class Writer:
    """Writes to a descriptor as far as it has room, and keeps the rest."""

    def __init__(self, descriptor: int, on_written: Callable[[int], None]) -> None:
        self.descriptor = descriptor
        self.waiting: Deque[Any] = deque()
        self._on_written = on_written

    def write(self) -> None:
        """Write as much as there is room for. Raises OSError when nobody reads any more."""
        while self.waiting:
            piece = self.waiting[0]
            try:
                size = os.write(self.descriptor, piece)
            except BlockingIOError:
                return
            self._on_written(size)
            if size < len(piece):
                self.waiting[0] = memoryview(piece)[size:]
                return
            self.waiting.popleft()
