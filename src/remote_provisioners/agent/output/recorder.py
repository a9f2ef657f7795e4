"""A kernel's output (iopub), kept while nobody listens: a subscriber of the kernel, a publisher
to each client's stream.

Clients share one spool; each has its place in it. What a client's server has not acknowledged is
still in the spool, so that nothing is lost with that server. The kernel is always read at once:
for a slow client, too, messages wait here, not there, where ZeroMQ would drop them. Standard
library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from ...protocol import zmtp
from ...protocol.stream import Stream
from ..endpoints import Endpoint, endpoints_of
from .gap_notice import gap_notice, welcome
from .spool import Spool

_HANDSHAKE_SECONDS = 5.0
DEFAULT_MEMORY, DEFAULT_DISK = 64 * 1024 * 1024, 256 * 1024 * 1024


class Recorder:
    """What one kernel publishes, through its restarts, and the clients it is published to."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.subscribers: List[Subscriber] = []
        self._source: Optional[Source] = None
        self._connection: Dict[str, Any] = {}
        # The first message that nobody has had, if any; `owed`: to somebody who will ask for it.
        self._kept: Optional[int] = 0
        self._owed = False
        #: Nothing will come any more: clients are told so.
        self.over = False

    async def connect(self, connection: Dict[str, Any]) -> None:
        """Subscribe to the kernel, which listens; again after each of its restarts.

        Clients stay connected meanwhile: nothing that the new process says is lost to them.
        """
        if self._source is not None:
            self._source.close()
        self._connection, self.over = connection, False
        source = self._source = Source(self)
        connected = await source.connect(endpoints_of(connection)["iopub"])
        if not connected and self._source is source:
            self.over = True
            self.pump()

    async def ready(self) -> bool:
        """Whether the kernel could be subscribed to; else clients are joined to it directly."""
        return self._source is not None and await self._source.ready

    # -- clients ----------------------------------------------------------------------------

    def attach(self, stream: Stream, replay: bool, greeted: bool = False) -> Subscriber:
        """A client's stream. With `replay` it gets what nobody has had, else what comes."""
        position = None
        if replay and self._kept is not None:
            position, self._kept, self._owed = self._kept, None, False
        elif not self._owed:
            self._kept = None
        subscriber = Subscriber(self, stream, position, greeted)
        self.subscribers.append(subscriber)
        return subscriber

    def detach(self, subscriber: Subscriber, vanished: bool) -> None:
        """A client's stream is over: it was closed, or has `vanished` with its server."""
        self.subscribers.remove(subscriber)
        had = subscriber.acknowledged()
        if had is not None and (vanished or not self.subscribers):
            self._kept = had if self._kept is None else min(had, self._kept)
        elif not self.subscribers and self._kept is None:
            self._kept = self.spool.end
        self._owed = self._owed or (vanished and self._kept is not None)
        self.trim()

    def adopted(self) -> None:
        """Another server has the kernel: what nobody has had is for its notebook."""
        self._owed = self._kept is not None

    def subscribe(self, message: bytes) -> None:
        """Pass a client's subscription on: ipykernel answers each with a welcome."""
        if self._source is not None:
            self._source.send(message)

    def trim(self) -> None:
        """Forget what all have had."""
        places = [subscriber.acknowledged() for subscriber in self.subscribers]
        needed = [place for place in [self._kept, *places] if place is not None]
        self.spool.trim(min(needed) if needed else self.spool.end)

    # -- output -----------------------------------------------------------------------------

    def pump(self) -> None:
        """Publish what has come."""
        for subscriber in list(self.subscribers):
            subscriber.pump()
        self.trim()

    def welcome(self, topic: bytes) -> bytes:
        return welcome(self._connection, topic)

    def gap_notice(self, dropped: int, following: Optional[bytes]) -> bytes:
        return gap_notice(self._connection, dropped, following)

    def close(self) -> None:
        """Forget the output, and the kernel."""
        self.over = True
        if self._source is not None:
            self._source.close()
        self.spool.close()
        self.pump()


class Source(asyncio.Protocol):
    """The connection to one process of the kernel, subscribed to everything it publishes."""

    def __init__(self, recorder: Recorder) -> None:
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._recorder = recorder
        self._zmtp = zmtp.Connection(b"SUB")
        self._transport: Any = None

    async def connect(self, endpoint: Endpoint) -> bool:
        """Returns whether there is ZMTP at the other end that we can speak."""
        loop = asyncio.get_running_loop()
        try:
            if isinstance(endpoint, str):
                await loop.create_unix_connection(lambda: self, endpoint)
            else:
                await loop.create_connection(lambda: self, "127.0.0.1", endpoint)
            await asyncio.wait_for(asyncio.shield(self.ready), _HANDSHAKE_SECONDS)
        except (OSError, asyncio.TimeoutError):
            self.close()
        return self.ready.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.send(b"")

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._zmtp.feed(data):
                self._recorder.spool.append(message)
        except zmtp.ZmtpError:
            self.close()
            return
        if self._zmtp.ready and not self.ready.done():
            topics = [topic for s in self._recorder.subscribers for topic in s.topics]
            self.send(b"".join(zmtp.message([b"\1" + topic]) for topic in [b"", *topics]))
            self._decide(True)
        elif self._zmtp.output:
            self.send(b"")
        self._recorder.pump()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(self._zmtp.take_output() + data)

    def close(self) -> None:
        self._decide(False)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._decide(False)

    def _decide(self, ready: bool) -> None:
        if not self.ready.done():
            self.ready.set_result(ready)


class Subscriber:
    """A client's iopub socket at the other end of `stream`: we publish to it.

    It is the stream's socket here: write, pause_reading, resume_reading, close.
    """

    def __init__(
        self, recorder: Recorder, stream: Stream, position: Optional[int], greeted: bool
    ) -> None:
        self._recorder = recorder
        self._stream = stream
        self._zmtp = zmtp.Connection(b"PUB", greeted)
        self.topics: List[bytes] = []
        # The next message to send; None as long as the client has subscribed to nothing.
        self._position = position
        self._batch: Deque[bytes] = deque()
        # Ends of messages within the stream, with the number that follows.
        self._unacknowledged: Deque[Tuple[int, int]] = deque()
        self._acknowledged = position
        self._paused = self._closed = False
        stream.on_acknowledged = self._on_acknowledged
        stream.send(self._zmtp.take_output())

    def acknowledged(self) -> Optional[int]:
        """The first message that may not have arrived; None before it has subscribed."""
        return self._acknowledged

    def _on_acknowledged(self) -> None:
        arrived = self._stream.outgoing.acknowledged
        before = self._acknowledged
        while self._unacknowledged and self._unacknowledged[0][0] <= arrived:
            self._acknowledged = self._unacknowledged.popleft()[1]
        if not self._unacknowledged:
            self._acknowledged = self._position
        if self._acknowledged != before:
            self._recorder.trim()

    # -- the stream's socket ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        spool = self._recorder.spool
        try:
            for message in self._zmtp.feed(data):
                self._subscribe(zmtp.topic(message))
                self._recorder.subscribe(message)
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
                # Jupyter's server takes the first message for a sign of life, and drops it.
                self._stream.send(self._recorder.welcome(message[1:]))
            self.topics.append(message[1:])
        elif message[:1] == b"\0" and message[1:] in self.topics:
            self.topics.remove(message[1:])

    # -- what is published ------------------------------------------------------------------

    def pump(self) -> None:
        """Send what there is and what there is room for."""
        if self.topics and self._position is not None and not self._closed:
            while not self._paused and (message := self._next()) is not None:
                if b"" in self.topics or zmtp.topic(message).startswith(tuple(self.topics)):
                    self._stream.send(message)
                    self._unacknowledged.append((self._stream.outgoing.end, self._position))
            if not self._unacknowledged:
                self._acknowledged = self._position
        if self._recorder.over and not self._paused and not self._closed:
            self._stream.finish()

    def _next(self) -> Optional[bytes]:
        """The next message, or the marker of a gap before it."""
        assert self._position is not None
        spool = self._recorder.spool
        while not self._batch:
            if self._position < spool.first:
                dropped, self._position = spool.first - self._position, spool.first
                following = self._peek()
                return self._recorder.gap_notice(dropped, following)
            if self._position >= spool.end:
                return None
            self._batch.extend(spool.read(self._position))
        self._position += 1
        return self._batch.popleft()

    def _peek(self) -> Optional[bytes]:
        spool = self._recorder.spool
        if self._position is None or self._position >= spool.end:
            return None
        messages = spool.read(self._position)
        return messages[0] if messages else None
