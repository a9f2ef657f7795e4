"""A message that clients read while it arrives, so that it need not be stored whole.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import List, Optional

from ...protocol import zmtp
from .gap import Gap, parent_of

#: A message of more bytes is passed on while it arrives.
LARGE_BYTES = 1024 * 1024
_STEP_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024


class GoneError(Exception):
    """The requested data is no longer there."""


class LargeMessage:
    """One message of a spool: the beginning in a file or dropped, the rest in memory."""

    count = 1

    def __init__(self, number: int, path: str, beginning: bytes) -> None:
        """`beginning` contains its topic and its parent."""
        self.first = number
        self.size = 0
        #: Whether its last byte is there; nothing comes any more when it has been `dropped`.
        self.complete = self.dropped = False
        #: Whether its first byte can still be read.
        self.whole = True
        self.topic = zmtp.topic(beginning)
        self.memory = self.disk = 0
        self._parent = parent_of(beginning)
        self._path = path
        # Pieces in memory, and where each begins.
        self._pieces: List[bytes] = []
        self._begins: List[int] = []
        self.append(beginning)

    def append(self, data: bytes) -> None:
        self._pieces.append(data)
        self._begins.append(self.size)
        self.size += len(data)
        self.memory += len(data)

    def read(self, offset: int) -> Optional[bytes]:
        """Some bytes from `offset` on; None if none have arrived yet. Raises GoneError."""
        if self.dropped:
            raise GoneError
        if offset < self.disk:
            try:
                with open(self._path, "rb") as file:
                    file.seek(offset)
                    found = file.read(min(_READ_BYTES, self.disk - offset))
            except OSError:
                found = b""
            if not found:
                raise GoneError
            return found
        if offset >= self.size:
            return None
        at = bisect_right(self._begins, offset) - 1
        if at < 0:
            raise GoneError
        return self._pieces[at][offset - self._begins[at] :]

    # -- as a block of the spool ------------------------------------------------------------

    def step(self) -> int:
        """The bytes that the next :meth:`spill` takes to disk."""
        return sum(len(piece) for piece in self._pieces[: self._next_pieces()])

    def spill(self) -> None:
        """Write the oldest pieces to the file. Raises OSError."""
        if not self.whole:
            raise OSError("its beginning is gone")
        count = self._next_pieces()
        flags = os.O_CREAT | os.O_WRONLY
        with open(os.open(self._path, flags, 0o600), "wb") as file:
            file.seek(self.disk)
            file.writelines(self._pieces[:count])
        self.disk += sum(len(piece) for piece in self._pieces[:count])
        self._forget(count)

    def let_go(self, offset: int) -> None:
        """No new reader can begin. All present readers are at `offset` or beyond."""
        if offset < self.disk or not offset:
            return  # the file is needed to its end
        self._unlink()
        self.whole = False
        self._forget(bisect_right(self._begins, offset) - 1 if offset < self.size else None)

    def drop(self) -> None:
        """Drop everything."""
        self.dropped, self.whole = True, False
        self._unlink()
        self._forget(None)

    def lost(self) -> Gap:
        return Gap([(self._parent, 1, None)])

    def _next_pieces(self) -> int:
        size = 0
        for count, piece in enumerate(self._pieces, 1):
            size += len(piece)
            if size >= _STEP_BYTES:
                return count
        return len(self._pieces)

    def _forget(self, count: Optional[int]) -> None:
        """Free the first `count` pieces, or all."""
        self.memory -= sum(len(piece) for piece in self._pieces[:count])
        del self._pieces[:count], self._begins[:count]

    def _unlink(self) -> None:
        if self.disk:
            self.disk = 0
            try:
                os.unlink(self._path)
            except OSError:
                pass
