"""Messages that are kept in order, in memory and then on disk, within bounds.

They are numbered from 0. When both bounds are reached the oldest are dropped: `first` says from
which on they are there. Blocks of messages, not single ones, go to files and are dropped.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, List, Optional

from ...protocol import zmtp

_BLOCK_BYTES = 1024 * 1024
#: What a message takes beside its bytes.
_OVERHEAD = 100


@dataclass
class _Block:
    first: int
    messages: Optional[List[bytes]] = field(default_factory=list)  # None: in its file
    count: int = 0
    size: int = 0
    path: str = ""


class Spool:
    """Holds messages as they are on the wire (protocol/zmtp.py), for any number of readers."""

    def __init__(self, directory: str, memory: int, disk: int) -> None:
        """`memory` and `disk`: bytes; the files are made in `directory` when they are needed."""
        self.end = 0
        self._directory = directory
        self._memory, self._memory_used = memory, 0
        self._disk, self._disk_used = disk, 0
        self._block_bytes = max(1, min(_BLOCK_BYTES, memory // 4))
        self._blocks: Deque[_Block] = deque()

    @property
    def first(self) -> int:
        """The oldest message that is kept."""
        return self._blocks[0].first if self._blocks else self.end

    def append(self, message: bytes) -> None:
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.messages is None or last.size >= self._block_bytes:
            last = _Block(self.end)
            self._blocks.append(last)
        assert last.messages is not None
        last.messages.append(message)
        last.count += 1
        last.size += len(message) + _OVERHEAD
        self._memory_used += len(message) + _OVERHEAD
        self.end += 1
        while self._memory_used > self._memory:
            self._spill()

    def read(self, number: int) -> List[bytes]:
        """Messages from `number` on, some of those that are there; at least one of them.

        `number` is at least `first`; less than `end`. Where a file has been lost, so are they:
        then none, and `first` is larger.
        """
        for block in self._blocks:
            if number < block.first + block.count:
                break
        messages = block.messages
        if messages is None:
            try:
                with open(block.path, "rb") as file:
                    content = file.read()
                messages = [raw for _, raw in zmtp.Decoder().feed(content)]
            except OSError:
                messages = []
            if len(messages) != block.count:
                while self._blocks and self.first <= number:
                    self._drop()
                return []
        return messages[number - block.first :]

    def trim(self, number: int) -> None:
        """Nobody needs what is before `number` any more."""
        while self._blocks and self._blocks[0].first + self._blocks[0].count <= number:
            self._drop()

    def close(self) -> None:
        """Forget all, remove the files."""
        self.trim(self.end)

    def _spill(self) -> None:
        """Bring the oldest block that is in memory to disk; drop what has no room there."""
        block = next(block for block in self._blocks if block.messages is not None)
        while self._disk_used + block.size > self._disk:
            oldest = self._blocks[0]
            self._drop()
            if oldest is block:
                return
        assert block.messages is not None
        path = os.path.join(self._directory, "output-{}".format(block.first))
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                block.path = path
                file.writelines(block.messages)
        except OSError:  # the disk is full: as if the bound were reached
            self._drop()
            return
        block.messages = None
        self._memory_used -= block.size
        self._disk_used += block.size

    def _drop(self) -> None:
        block = self._blocks.popleft()
        if block.messages is not None:
            self._memory_used -= block.size
        else:
            self._disk_used -= block.size
        if block.path:
            try:
                os.unlink(block.path)
            except OSError:
                pass
