"""Store messages in order, in memory and then on disk, within limits.

They are numbered from 0. At the limits the oldest are dropped: `first` is the oldest stored one,
and `gap` describes the dropped ones. Whole blocks of messages go to files and are dropped. A large
message is a separate block, and can be read while it arrives.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Deque, List, Optional, Sequence, Tuple, Union

from ...protocol import zmtp
from .budget import Budget, Spender
from .gap import Gap
from .large_message import LargeMessage

_BLOCK_BYTES = 1024 * 1024
#: The memory that a message takes besides its bytes.
_OVERHEAD = 100
#: We wait for a client that reads, instead of dropping messages, unless it is more messages behind
#: than this. ZeroMQ keeps as many in the kernel for each client.
HELD_MESSAGES = 1000

#: The next message that a client reads, and the next byte of it.
Place = Tuple[int, int]


@dataclass
class _Block:
    first: int
    messages: Optional[List[bytes]] = field(default_factory=list)  # None: in its file
    count: int = 0
    size: int = 0
    path: str = ""
    gap: Gap = field(default_factory=Gap)

    @property
    def memory(self) -> int:
        return self.size if self.messages is not None else 0

    @property
    def disk(self) -> int:
        return self.size if self.messages is None else 0

    def step(self) -> int:
        """The bytes that the next :meth:`spill` takes to disk."""
        return self.size

    def spill(self) -> None:
        """Write the block to its file. Raises OSError."""
        assert self.messages is not None
        descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.writelines(self.messages)
        self.gap, self.messages = Gap.of(self.messages), None

    def lost(self) -> Gap:
        """Drop the block. Returns the description of its messages."""
        return self.gap if self.messages is None else Gap.of(self.messages)


class Spool(Spender):
    """Holds messages in wire format (protocol/zmtp.py) for any number of readers."""

    def __init__(
        self, directory: str, memory: int, disk: int, budget: Optional[Budget] = None
    ) -> None:
        """`memory` and `disk`: bytes; the files are made in `directory` when they are needed.

        `budget`: of all the spools of the agent.
        """
        self.end = 0
        #: The positions of clients that read: output after them is not dropped.
        self.places: Callable[[], List[Place]] = list
        self.memory_used = self.disk_used = 0
        self._directory = directory
        self._memory, self._disk = memory, disk
        self._budget = budget or Budget(directory)
        self._budget.add(self)
        self._block_bytes = max(1, min(_BLOCK_BYTES, memory // 4))
        self._blocks: Deque[Union[_Block, LargeMessage]] = deque()
        # The large message that arrives; it may have been dropped meanwhile.
        self._arriving: Optional[LargeMessage] = None
        self._gaps: Deque[Tuple[int, Gap]] = deque()

    @property
    def first(self) -> int:
        """The number of the oldest stored message."""
        return self._blocks[0].first if self._blocks else self.end

    def append(self, message: bytes) -> None:
        """Add a whole message. The limits may be exceeded until `fit` is called."""
        last = self._blocks[-1] if self._blocks else None
        full = not isinstance(last, _Block) or last.size >= self._block_bytes
        if full or last is None or last.messages is None:  # type: ignore[union-attr]
            last = _Block(self.end, path=self._file(self.end))
            self._blocks.append(last)
        assert isinstance(last, _Block)
        assert last.messages is not None
        last.messages.append(message)
        last.count += 1
        size = len(message) + _OVERHEAD
        last.size += size
        self._count(memory=size)
        self.end += 1

    def begin(self, data: bytes) -> None:
        """A large message begins to arrive, with `data`."""
        self._arriving = LargeMessage(self.end, self._file(self.end), data)
        self._blocks.append(self._arriving)
        self.end += 1
        self._count(memory=len(data))

    def proceed(self, data: bytes, complete: bool = False) -> None:
        """More of the large message has arrived. It may now be `complete`."""
        large = self._arriving
        if large is not None and not large.dropped:
            large.append(data)
            self._count(memory=len(data))
            large.complete = complete
        if complete:
            self._arriving = None

    def broken_off(self) -> bool:
        """The source has ended. Returns whether a large message was incomplete."""
        large, self._arriving = self._arriving, None
        if large is None or large.dropped:
            return False
        self._count(-large.memory, -large.disk)
        large.drop()
        return True

    def read(self, number: int) -> Union[Sequence[bytes], LargeMessage]:
        """At least one of the messages from `number` on; or the large message that has this
        number.

        `number` is at least `first`; less than `end`. Where a file has been lost, so are they:
        then none, and `first` is larger.
        """
        block = next(b for b in self._blocks if number < b.first + b.count)
        if isinstance(block, LargeMessage):
            return block
        messages = block.messages
        if messages is None:
            try:
                with open(block.path, "rb") as file:
                    messages = [raw for _, raw in zmtp.Decoder().feed(file.read())]
            except OSError:
                messages = []
            if len(messages) != block.count:
                self._drop_all_to(block)
                return []
        return messages[number - block.first :]

    def gap(self, number: int) -> Gap:
        """The dropped messages from `number` to `first`."""
        total = Gap()
        for begin, gap in self._gaps:
            if begin + gap.count > number:
                total.extend(gap.after(max(0, number - begin)))
        return total

    def trim(self, number: int) -> None:
        """Forget the messages before `number`."""
        while self._blocks and self._blocks[0].first + self._blocks[0].count <= number:
            self._remove()
        while self._gaps and self._gaps[0][0] + self._gaps[0][1].count <= number:
            self._gaps.popleft()

    def fit(self) -> bool:
        """Enforce the limits. Returns False if a client has to read first."""
        while self.memory_used > self._memory:
            if not self.shrink():
                return False
        return self._budget.fit()

    def shrink(self) -> bool:
        """Use less memory. Returns False if only clients can help."""
        block = next((block for block in self._blocks if block.memory), None)
        if block is None:
            return False
        size = block.step()
        if self.disk_used + size <= self._disk and self._budget.has_disk(size):
            before = block.memory, block.disk
            try:
                block.spill()
            except OSError:
                pass  # the disk is full: the same as reaching the limit
            else:
                self._count(block.memory - before[0], block.disk - before[1])
                return True
        return self.make_room()

    def make_room(self) -> bool:
        """Drop the oldest block. Returns False if only clients can help."""
        if not self._blocks:
            return False
        oldest, places = self._blocks[0], self.places()
        behind = [place for place in places if place[0] < oldest.first + oldest.count]
        if behind and self.end - min(behind)[0] <= HELD_MESSAGES:
            if not isinstance(oldest, LargeMessage):
                return False
            before = oldest.memory, oldest.disk
            oldest.let_go(min(max(place, (oldest.first, 0)) for place in behind)[1])
            self._count(oldest.memory - before[0], oldest.disk - before[1])
            return (oldest.memory, oldest.disk) != before
        self._drop()
        return True

    def close(self) -> None:
        """Drop everything and remove the files."""
        self._arriving = None
        self.trim(self.end)
        self._budget.remove(self)

    def _file(self, number: int) -> str:
        return os.path.join(self._directory, "output-{}".format(number))

    def _count(self, memory: int = 0, disk: int = 0) -> None:
        self.memory_used += memory
        self.disk_used += disk
        self._budget.count(memory, disk)

    def _drop_all_to(self, block: Union[_Block, LargeMessage]) -> None:
        while self._blocks and self._blocks[0].first <= block.first:
            self._drop()

    def _drop(self) -> None:
        """Drop the oldest block, which a client may miss."""
        block = self._blocks[0]
        self._gaps.append((block.first, block.lost()))
        while len(self._gaps) > HELD_MESSAGES:
            begin, gap = self._gaps.popleft()
            gap.extend(self._gaps.popleft()[1])
            self._gaps.appendleft((begin, gap.shortened()))
        self._remove()

    def _remove(self) -> None:
        block = self._blocks.popleft()
        self._count(-block.memory, -block.disk)
        if isinstance(block, LargeMessage):
            block.drop()
        elif block.messages is None:
            _unlink(block.path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
