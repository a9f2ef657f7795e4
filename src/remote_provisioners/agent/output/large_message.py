"""A message that clients read while it arrives, so that it need not be stored whole.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import Callable, List, Optional

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
        #: Bytes in memory that are not being written, and bytes in the file or being written.
        self.memory = self.disk = 0
        # Bytes of the file that can be read; which write goes on, and how many bytes it has.
        self._written = self._writing = 0
        self._write: object = None
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

    def is_written(self, offset: int) -> bool:
        """Whether the bytes at `offset` have to be loaded from the file."""
        return offset < self._written and not self.dropped

    def load(self, offset: int) -> bytes:
        """Some bytes of the file; none if they are gone. Called in a thread."""
        try:
            with open(self._path, "rb") as file:
                file.seek(offset)
                return file.read(min(_READ_BYTES, self._written - offset))
        except OSError:
            return b""

    def read(self, offset: int) -> Optional[bytes]:
        """Some bytes from `offset` on, from memory; None if none have arrived yet.

        Raises GoneError.
        """
        if self.dropped:
            raise GoneError
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

    def spill(self) -> Callable[[], None]:
        """Begin to take the oldest pieces to the file: returns what writes them, in a thread.

        Then :meth:`spilled` is called. Raises OSError.
        """
        if not self.whole:
            raise OSError("its beginning is gone")
        pieces, offset = self._pieces[: self._next_pieces()], self._written
        size = sum(map(len, pieces))
        self._writing, self._write = len(pieces), pieces
        self.memory, self.disk = self.memory - size, self.disk + size

        def write() -> None:
            flags = os.O_CREAT | os.O_WRONLY
            with open(os.open(self._path, flags, 0o600), "wb") as file:
                file.seek(offset)
                file.writelines(pieces)

        return write

    def spilled(self, done: bool) -> None:
        """The pieces are in the file, or still in memory."""
        if self._write is None:
            return  # dropped meanwhile
        count, self._writing, self._write = self._writing, 0, None
        size = sum(len(piece) for piece in self._pieces[:count])
        if done:
            self._written += size
            del self._pieces[:count], self._begins[:count]
        else:
            self.memory, self.disk = self.memory + size, self.disk - size

    def let_go(self, offset: int) -> bool:
        """No new reader can begin. All present readers are at `offset` or beyond.

        Returns whether the file has to be removed.
        """
        if offset < self.disk or not offset:
            return False  # the file is needed to its end
        had_file, self.disk, self._written, self._write = bool(self.disk), 0, 0, None
        self.whole = False
        self._forget(bisect_right(self._begins, offset) - 1 if offset < self.size else None)
        return had_file

    def drop(self) -> bool:
        """Drop everything. Returns whether the file has to be removed."""
        had_file, self.disk, self._written, self._write = bool(self.disk), 0, 0, None
        self.dropped, self.whole = True, False
        self._forget(None)
        return had_file

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
        del self._pieces[:count], self._begins[:count]
        self.memory = sum(map(len, self._pieces))
