"""A client of a kernel's output, and its position in it.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Deque, List, Optional, Tuple

from ...protocol import zmtp
from ...protocol.stream import Stream
from .gap import Gap
from .large_message import GoneError, LargeMessage
from .spool import Place, Spool

#: The recorder does not wait for a client that has read nothing for this long.
_STALLED_SECONDS = 10.0


class Publisher:
    """The owner of the output that clients read."""

    spool: Spool
    #: Whether the kernel waits for a client that reads output beyond the limits.
    held: bool
    #: Whether all output has come.
    over: bool

    def subscribe(self, message: bytes) -> None:
        """A client has sent a subscription, or its end."""
        raise NotImplementedError

    def trim(self) -> None:
        """A client has received more. Drop output that all clients have received."""
        raise NotImplementedError

    def cut(self, subscriber: Subscriber, number: int) -> None:
        """A client has the beginning of large message `number` and cannot get the rest."""
        raise NotImplementedError

    def welcome(self, topic: bytes) -> bytes:
        """A message that answers the subscription to `topic`."""
        raise NotImplementedError

    def gap_notices(self, gap: Gap, following: Optional[bytes]) -> List[bytes]:
        """Messages for what a client will never get, before the message `following`."""
        raise NotImplementedError


class Subscriber:
    """A client's iopub socket at the other end of `stream`: we publish to it.

    It acts as the stream's socket: write, pause_reading, resume_reading, close.
    """

    def __init__(
        self, publisher: Publisher, stream: Stream, position: Optional[int], greeted: bool
    ) -> None:
        self._publisher = publisher
        self._stream = stream
        self._zmtp = zmtp.Connection(b"PUB", greeted)
        self.topics: List[bytes] = []
        # The next message to send; None until the client subscribes.
        self._position = position
        self._batch: Deque[bytes] = deque()
        # Notices for a gap, sent before the next message.
        self._notices: Deque[bytes] = deque()
        # The large message that is being sent, and how many of its bytes have been.
        self._large: Optional[LargeMessage] = None
        self._offset = 0
        self._moved = time.monotonic()
        # The ends of messages as offsets in the stream, each with the next message's number.
        self._unacknowledged: Deque[Tuple[int, int]] = deque()
        self._acknowledged = position
        self._paused = self._closed = False
        stream.on_acknowledged = self._on_acknowledged
        stream.send(self._zmtp.take_output())

    def acknowledged(self) -> Optional[int]:
        """The first message that may not have arrived; None before it subscribes."""
        return self._acknowledged

    @property
    def place(self) -> Optional[Place]:
        """The next message to read from the spool."""
        if self._position is None or not self.topics:
            return None
        return self._position + len(self._batch), self._offset

    def reads(self, now: float) -> bool:
        """Whether the client reads the data that we send."""
        waits = self._paused or self._stream.link is None
        return not self._closed and (not waits or now - self._moved < _STALLED_SECONDS)

    def abort(self) -> None:
        """End the stream: it cannot go on."""
        self._closed = True
        self._stream.abort()

    def _on_acknowledged(self) -> None:
        self._moved = time.monotonic()
        arrived = self._stream.outgoing.acknowledged
        before = self._acknowledged
        while self._unacknowledged and self._unacknowledged[0][0] <= arrived:
            self._acknowledged = self._unacknowledged.popleft()[1]
        if not self._unacknowledged:
            self._acknowledged = self._position
        if self._acknowledged != before or self._publisher.held:
            self._publisher.trim()

    # -- the stream's socket ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        spool = self._publisher.spool
        try:
            for message in self._zmtp.feed(data):
                self._subscribe(zmtp.topic(message))
                self._publisher.subscribe(message)
        except zmtp.ZmtpError:
            self._stream.abort()
            return
        if self._zmtp.output:
            self._stream.send(self._zmtp.take_output())
        if self.topics and self._position is None:
            self._position = self._acknowledged = spool.end
        self.pump()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.pump()

    def close(self) -> None:
        self._closed = True

    def _subscribe(self, message: bytes) -> None:
        if message[:1] == b"\1":
            if self._position is not None and not self.topics:
                # Jupyter's server takes the first message as a sign of life, and drops it.
                self._stream.send(self._publisher.welcome(message[1:]))
            self.topics.append(message[1:])
        elif message[:1] == b"\0" and message[1:] in self.topics:
            self.topics.remove(message[1:])

    # -- what is published ------------------------------------------------------------------

    def pump(self) -> None:
        """Send as much as there is room for."""
        if self.topics and self._position is not None and not self._closed:
            try:
                while not self._paused and self._send_next():
                    pass
            except GoneError:
                self._publisher.cut(self, self._position)
                return
            if not self._unacknowledged and not self._large:
                self._acknowledged = self._position
        if self._publisher.over and not self._paused and not self._closed:
            self._stream.finish()

    def _send_next(self) -> bool:
        """Send some output. Returns False if there is none. Raises GoneError."""
        assert self._position is not None
        if self._large is not None:
            return self._send_part(self._large)
        if self._notices:
            self._send(self._notices.popleft())
        elif self._batch:
            self._position += 1
            self._send(self._batch.popleft())
        else:
            return self._find()
        return True

    def _send(self, message: bytes) -> None:
        """A message, or a notice before the next one."""
        assert self._position is not None
        if self._wants(zmtp.topic(message)):
            self._stream.send(message)
            self._unacknowledged.append((self._stream.outgoing.end, self._position))

    def _send_part(self, large: LargeMessage) -> bool:
        assert self._position is not None
        piece = self._publisher.spool.read_large(large, self._offset)
        if piece is not None:
            self._offset += len(piece)
            self._stream.send(piece)
        elif large.complete and self._offset >= large.size:
            self._position += 1
            self._large, self._offset = None, 0
            self._unacknowledged.append((self._stream.outgoing.end, self._position))
        else:
            return False
        return True

    def _wants(self, topic: bytes) -> bool:
        return b"" in self.topics or topic.startswith(tuple(self.topics))

    def _find(self) -> bool:
        """Fetch the next message from the spool. Returns False if there is none."""
        assert self._position is not None
        spool = self._publisher.spool
        if self._position < spool.first:
            following = spool.read(spool.first) if spool.first < spool.end else []
            if following is None:
                return False  # until it is read from its file
            if self._position < spool.first:
                gap, self._position = spool.gap(self._position), spool.first
                small = following and not isinstance(following, LargeMessage)
                next_one = following[0] if small else None  # type: ignore[index]
                self._notices.extend(self._publisher.gap_notices(gap, next_one))
        elif self._position >= spool.end:
            return False
        else:
            found = spool.read(self._position)
            if found is None:
                return False
            if not isinstance(found, LargeMessage):
                self._batch.extend(found)
            elif not found.whole:
                self._position += 1
                self._notices.extend(self._publisher.gap_notices(found.lost(), None))
            elif self._wants(found.topic):
                self._large = found
            else:
                self._position += 1
        return True
