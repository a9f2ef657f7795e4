"""Store messages in order, in memory and then on disk, within limits.

They are numbered from 0. At the limits the oldest are dropped: `first` is the oldest stored one,
and `gap` describes the dropped ones. Whole blocks of messages go to files and are dropped. A large
message is a separate block, and can be read while it arrives.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Sequence, Set, Tuple, Union

from ...protocol import zmtp
from ..apart import SECONDS, Begin, at_once
from .budget import Budget, Spender
from .gap import Gap
from .large_message import GoneError, LargeMessage

_BLOCK_BYTES = 1024 * 1024
#: How long nothing is written after that has failed.
_AGAIN_SECONDS = 1.0
#: The memory that a message takes besides its bytes.
_OVERHEAD = 100
#: We wait for a client that reads, instead of dropping messages, unless it is more messages behind
#: than this. ZeroMQ keeps as many in the kernel for each client.
HELD_MESSAGES = 1000

#: The next message that a client reads, and the next byte of it.
Place = Tuple[int, int]


class _Block:
    """Messages that the agent writes to one file."""

    def __init__(self, first: int, path: str) -> None:
        self.first, self.path = first, path
        self.messages: Optional[List[bytes]] = []  # None: they are in the file
        self.count = self.size = 0
        self.gap = Gap()
        self.spilling = False

    @property
    def memory(self) -> int:
        return self.size if self.messages is not None and not self.spilling else 0

    @property
    def disk(self) -> int:
        return self.size - self.memory

    def step(self) -> int:
        """The bytes that the next :meth:`spill` takes to disk."""
        return self.size

    def spill(self) -> Callable[[], Gap]:
        """Begin to take the block to its file: returns what writes it, in a thread.

        Then :meth:`spilled` is called.
        """
        messages, self.spilling = self.messages or [], True

        def write() -> Gap:
            descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.writelines(messages)
            return Gap.of(messages)

        return write

    def spilled(self, gap: Optional[Gap]) -> None:
        """It is in its file; or still in memory, if `gap` is None."""
        self.spilling = False
        if gap is not None:
            self.gap, self.messages = gap, None

    def load(self) -> List[bytes]:
        """Read the file; no messages if it is gone, or damaged. Called in a thread."""
        try:
            with open(self.path, "rb") as file:
                return [raw for _, raw in zmtp.Decoder().feed(file.read())]
        except (OSError, zmtp.ZmtpError):
            return []

    def lost(self) -> Gap:
        """The description of its messages, which are dropped."""
        return self.gap if self.messages is None else Gap.of(self.messages)


class Spool(Spender):
    """Holds messages in wire format (protocol/zmtp.py) for any number of readers."""

    def __init__(
        self,
        directory: str,
        memory: int,
        disk: int,
        budget: Optional[Budget] = None,
        begin: Begin = at_once,
    ) -> None:
        """`memory` and `disk`: bytes; the files are made in `directory` when they are needed.

        `budget`: of all the spools of the agent. `begin` works on files, in order.
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
        self._begin = begin
        #: Called when a file has been read or written for which somebody waits.
        self.on_done: Callable[[], None] = lambda: None
        self._awaited = False
        # Since when a block is written, and until when no other is, because that has failed.
        self._spilling_since: Optional[float] = None
        self._disk_fails_until = 0.0
        # What was read from a file last, and what is being read: by block and offset.
        self._found: Tuple[Optional[Tuple[int, int]], Any] = (None, None)
        self._loading: Set[Tuple[int, int]] = set()

    @property
    def first(self) -> int:
        """The number of the oldest stored message."""
        return self._blocks[0].first if self._blocks else self.end

    def append(self, message: bytes) -> None:
        """Add a whole message. The limits may be exceeded until `fit` is called."""
        last = self._blocks[-1] if self._blocks else None
        full = not isinstance(last, _Block) or last.size >= self._block_bytes
        if full or last is None or last.messages is None or last.spilling:  # type: ignore[union-attr]
            last = _Block(self.end, self._file(self.end))
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
        if large.drop():
            self._unlink(large.first)
        return True

    def read(self, number: int) -> Union[Sequence[bytes], LargeMessage, None]:
        """At least one of the messages from `number` on; or the large message that has this
        number. None: not yet; they are read from a file.

        `number` is at least `first`; less than `end`. Where a file has been lost, so are they:
        then none, and `first` is larger.
        """
        block = next(b for b in self._blocks if number < b.first + b.count)
        if isinstance(block, LargeMessage):
            return block
        messages = block.messages
        if messages is None:
            messages = self._load((block.first, 0), block.load)
            if messages is None:
                return None
            if len(messages) != block.count:
                self._drop_all_to(block)
                return []
        return messages[number - block.first :]

    def read_large(self, large: LargeMessage, offset: int) -> Optional[bytes]:
        """Some bytes of a large message; None: not yet. Raises GoneError."""
        if not large.is_written(offset):
            return large.read(offset)
        found: Optional[bytes] = self._load((large.first, offset), lambda: large.load(offset))
        if found == b"":
            raise GoneError
        return found

    def _load(self, key: Tuple[int, int], load: Callable[[], Any]) -> Any:
        """What `load` returns; None: not yet."""

        def done(found: Any, error: Optional[BaseException]) -> None:
            self._loading.discard(key)
            self._found = (key, found)
            self._done()

        if self._found[0] != key and key not in self._loading:
            self._loading.add(key)
            self._begin(load, done)
        if self._found[0] == key:
            return self._found[1]
        self._awaited = True
        return None

    def _done(self) -> None:
        if self._awaited:
            self._awaited = False
            self.on_done()

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
        """Enforce the limits. Returns False if a client has to read first, or a file be written."""
        fits = True
        while fits and self.memory_used > self._memory + self._leeway:
            fits = self.shrink()
        fits = fits and self._budget.fit()
        self._awaited = self._awaited or not fits
        return fits

    @property
    def _leeway(self) -> int:
        """The kernel need not wait for each block that is written."""
        return self._block_bytes if self._spilling_since is not None else 0

    def shrink(self) -> bool:
        """Use less memory. Returns False if only clients can help, or time."""
        if self._spilling_since is not None:
            stuck = time.monotonic() - self._spilling_since > SECONDS
            return stuck and self.make_room()
        block = next((block for block in self._blocks if block.memory), None)
        if block is None:
            return False
        size = block.step()
        fits = self.disk_used + size <= self._disk and self._budget.has_disk(size)
        if fits and time.monotonic() >= self._disk_fails_until and self._spill(block):
            return True
        return self.make_room()

    def _spill(self, block: Union[_Block, LargeMessage]) -> bool:
        """Begin to take a block to disk. Returns False if that has failed already."""
        memory, disk = block.memory, block.disk
        try:
            write = block.spill()
        except OSError:
            return False
        self._count(block.memory - memory, block.disk - disk)
        self._spilling_since, failed = time.monotonic(), []

        def done(gap: Optional[Gap], error: Optional[BaseException]) -> None:
            self._spilling_since = None
            memory, disk = block.memory, block.disk
            if isinstance(block, LargeMessage):
                block.spilled(error is None)
            else:
                block.spilled(gap if error is None else None)
            if block in self._blocks:
                self._count(block.memory - memory, block.disk - disk)
            if error is not None:  # the disk is full: the same as reaching the limit
                failed.append(error)
                self._disk_fails_until = time.monotonic() + _AGAIN_SECONDS
            self._done()

        self._begin(write, done)
        return not failed

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
            if oldest.let_go(min(max(place, (oldest.first, 0)) for place in behind)[1]):
                self._unlink(oldest.first)
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
        if self._found[0] is not None and self._found[0][0] == block.first:
            self._found = (None, None)
        has_file = block.drop() if isinstance(block, LargeMessage) else bool(block.disk)
        if has_file:
            self._unlink(block.first)

    def _unlink(self, number: int) -> None:
        path = self._file(number)
        self._begin(lambda: os.unlink(path), lambda result, error: None)
