"""A kernel's output (iopub), kept while nobody listens: a subscriber of the kernel, a publisher
to each client's stream.

Clients share one spool; each has its place in it. What a client's server has not acknowledged is
still in the spool, so that nothing is lost with that server. The kernel is read at once: for a
slow client, too, messages wait here, not there, where ZeroMQ would drop them. Only while a client
reads what is more than may be kept the kernel waits for it. Standard library only: this module
travels to hosts.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from ...protocol import zmtp
from ...protocol.stream import Stream
from ..endpoints import Endpoint, endpoints_of
from .gap import Gap
from .gap_notice import announcement, gap_notices, welcome
from .large_message import GoneError, LargeMessage
from .spool import Place, Spool

_HANDSHAKE_SECONDS = 5.0
#: A message of more bytes is passed on while it arrives.
LARGE_BYTES = 1024 * 1024
#: A client that has taken nothing for so long is not waited for.
_STALLED_SECONDS = 10.0
_LOOK_SECONDS = 0.5


class Recorder:
    """What one kernel publishes, through its restarts, and the clients it is published to."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.subscribers: List[Subscriber] = []
        #: The process that is there now.
        self.source: Optional[Source] = None
        self._connection: Dict[str, Any] = {}
        # The first message that nobody has had, if any; `owed`: to somebody who will ask for it.
        self._kept: Optional[int] = 0
        self._owed = False
        # Within this message a client was cut off: the next one to come is told.
        self._cut: Optional[int] = None
        self._look: Optional[asyncio.TimerHandle] = None
        spool.places = self._places
        #: The kernel waits for a client that reads what is more than may be kept.
        self.held = False
        #: A text for the next cell that is run.
        self.announced = ""
        #: Nothing will come any more: clients are told so.
        self.over = False
        #: Called with the number of messages that a client will never get.
        self.on_dropped: Callable[[int], None] = lambda messages: None

    async def connect(self, connection: Dict[str, Any]) -> None:
        """Subscribe to the kernel, which listens; again after each of its restarts.

        Clients stay connected meanwhile: nothing that the new process says is lost to them.
        """
        if self.source is not None:
            self.source.close()
        self._connection, self.over = connection, False
        source = self.source = Source(self)
        connected = await source.connect(endpoints_of(connection)["iopub"])
        if not connected and self.source is source:
            self.over = True
            self.pump()

    def disconnect(self) -> None:
        """Nothing more will be heard of the kernel: clients are told so."""
        if self.source is not None:
            self.source.close()
        self.over = True
        self.pump()

    async def ready(self) -> bool:
        """Whether the kernel could be subscribed to; else clients are joined to it directly."""
        return self.source is not None and await self.source.ready

    # -- clients ----------------------------------------------------------------------------

    def attach(self, stream: Stream, replay: bool, greeted: bool = False) -> Subscriber:
        """A client's stream. With `replay` it gets what nobody has had, else what comes."""
        position = None
        if replay and self._kept is not None:
            position, self._kept, self._owed = self._kept, None, False
        else:
            position, self._cut = self._cut, None
            if not self._owed:
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
        """Pass a client's subscription on: ipykernel answers each with a welcome.

        Not its end: the kernel would take it for ours, which is everybody's.
        """
        if self.source is not None and zmtp.topic(message)[:1] == b"\1":
            self.source.send(message)

    def trim(self) -> None:
        """Forget what all have had, and what is more than may be kept."""
        places = [subscriber.acknowledged() for subscriber in self.subscribers]
        needed = [place for place in [self._kept, self._cut, *places] if place is not None]
        self.spool.trim(min(needed) if needed else self.spool.end)
        self.held = not self.spool.fit()
        if self.source is not None:
            self.source.hold(self.held)
        if self.held and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        """Somebody may have stalled, and other kernels' output may have gone."""
        self._look = None
        self.pump()

    def _places(self) -> List[Place]:
        """Where clients are that read."""
        now = time.monotonic()
        return [s.place for s in self.subscribers if s.place is not None and s.reads(now)]

    def cut(self, subscriber: Subscriber, number: int) -> None:
        """What is left of a large message, of this number, is gone for a client that has had its
        beginning: it has to connect again.
        """
        self._cut = number if self._cut is None else min(number, self._cut)
        subscriber.abort()

    # -- output -----------------------------------------------------------------------------

    def append(self, message: bytes) -> None:
        """The kernel has published `message`."""
        self.spool.append(message)
        if self.announced:
            text = announcement(self._connection, self.announced, message)
            if text is not None:
                self.announced = ""
                self.spool.append(text)

    def pump(self) -> None:
        """Publish what has come."""
        for subscriber in list(self.subscribers):
            subscriber.pump()
        self.trim()

    def welcome(self, topic: bytes) -> bytes:
        return welcome(self._connection, topic)

    def gap_notices(self, gap: Gap, following: Optional[bytes]) -> List[bytes]:
        self.on_dropped(gap.count)
        return gap_notices(self._connection, gap, following)

    def close(self) -> None:
        """Forget the output, and the kernel."""
        self.over = True
        self._kept = self._cut = None
        if self.source is not None:
            self.source.close()
        self.spool.close()
        self.pump()
        if self._look is not None:
            self._look.cancel()


class Source(asyncio.Protocol):
    """The connection to one process of the kernel, subscribed to everything it publishes."""

    def __init__(self, recorder: Recorder) -> None:
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._recorder = recorder
        self._zmtp = zmtp.Connection(b"SUB", large=LARGE_BYTES)
        self._transport: Any = None
        self._held = False

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
        spool = self._recorder.spool
        try:
            for kind, content in self._zmtp.feed_parts(data):
                if kind == zmtp.MESSAGE:
                    self._recorder.append(content)
                elif kind == zmtp.BEGINNING:
                    spool.begin(content)
                else:
                    spool.proceed(content, complete=kind == zmtp.END)
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

    def hold(self, held: bool) -> None:
        """Read no more from the kernel for now, or again."""
        if held != self._held and self._transport is not None:
            self._held = held
            if held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def close(self) -> None:
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._end()

    def _end(self) -> None:
        self._decide(False)
        if self._recorder.source is self and self._recorder.spool.broken_off():
            self._recorder.pump()

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
        # What stands for a gap, before the next message.
        self._notices: Deque[bytes] = deque()
        # The large message that is being sent, and how much of it was.
        self._large: Optional[LargeMessage] = None
        self._offset = 0
        self._moved = time.monotonic()
        # Ends of messages within the stream, with the number that follows.
        self._unacknowledged: Deque[Tuple[int, int]] = deque()
        self._acknowledged = position
        self._paused = self._closed = False
        stream.on_acknowledged = self._on_acknowledged
        stream.send(self._zmtp.take_output())

    def acknowledged(self) -> Optional[int]:
        """The first message that may not have arrived; None before it has subscribed."""
        return self._acknowledged

    @property
    def place(self) -> Optional[Place]:
        """What it will read next from the spool."""
        if self._position is None or not self.topics:
            return None
        return self._position + len(self._batch), self._offset

    def reads(self, now: float) -> bool:
        """Whether it takes what it is sent."""
        waits = self._paused or self._stream.link is None
        return not self._closed and (not waits or now - self._moved < _STALLED_SECONDS)

    def abort(self) -> None:
        """Its stream cannot go on."""
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
        if self._acknowledged != before or self._recorder.held:
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
            try:
                while not self._paused and self._send_next():
                    pass
            except GoneError:
                self._recorder.cut(self, self._position)
                return
            if not self._unacknowledged and not self._large:
                self._acknowledged = self._position
        if self._recorder.over and not self._paused and not self._closed:
            self._stream.finish()

    def _send_next(self) -> bool:
        """Send some of what there is; False if there is nothing. Raises GoneError."""
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
        piece = large.read(self._offset)
        if piece is not None:
            self._offset += len(piece)
            self._stream.send(piece)
        elif large.complete:
            self._position += 1
            self._large, self._offset = None, 0
            self._unacknowledged.append((self._stream.outgoing.end, self._position))
        else:
            return False
        return True

    def _wants(self, topic: bytes) -> bool:
        return b"" in self.topics or topic.startswith(tuple(self.topics))

    def _find(self) -> bool:
        """Look what is next in the spool; False if nothing is."""
        assert self._position is not None
        spool = self._recorder.spool
        if self._position < spool.first:
            gap, self._position = spool.gap(self._position), spool.first
            self._notices.extend(self._recorder.gap_notices(gap, self._peek()))
        elif self._position >= spool.end:
            return False
        else:
            found = spool.read(self._position)
            if not isinstance(found, LargeMessage):
                self._batch.extend(found)
            elif not found.whole:
                self._position += 1
                self._notices.extend(self._recorder.gap_notices(found.lost(), None))
            elif self._wants(found.topic):
                self._large = found
            else:
                self._position += 1
        return True

    def _peek(self) -> Optional[bytes]:
        spool = self._recorder.spool
        if self._position is None or self._position >= spool.end:
            return None
        found = spool.read(self._position)
        return found[0] if found and not isinstance(found, LargeMessage) else None
