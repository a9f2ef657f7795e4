"""A two-way stream of bytes that outlives its connections.

Each side keeps its sent bytes until the other side acknowledges them. If a link is lost, the stream
stays. The next link begins with how much each side has received, and each side resends from there.
The server uses a stream for a client's socket, the agent for the kernel's socket. Standard
library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections import deque
from typing import Any, Callable, Deque, List, Optional

from .frames import ACK, ASK, CLOSE, DATA, HELLO, OFFSET, FrameReader, Piece, frame
from .outgoing import PIECE_BYTES, Outgoing
from .pace import SHARED_PIECE_BYTES, Pace, Traffic
from .structure import FieldError, Structure
from .wire import Message, WireError

#: The bytes that a stream keeps in each direction before it stops reading its socket.
KEPT_BYTES = 8 * 1024 * 1024
_ACK_BYTES = 1024 * 1024
_ACK_SECONDS = 0.02
_SMALL_BYTES = 16 * 1024


class Link(asyncio.Protocol):
    """One connection of a stream, until it is lost or replaced."""

    def __init__(
        self, on_hello: Callable[[Link, Message], None], on_lost: Callable[[Link], None]
    ) -> None:
        self.stream: Optional[Stream] = None
        self.transport: Any = None
        self.writable = True
        self._reader = FrameReader()
        self._on_hello = on_hello
        self._on_lost = on_lost

    def say(self, message: Structure) -> None:
        """Send HELLO."""
        self.send(HELLO, json.dumps(message.fields()).encode("ascii"))

    def send(self, kind: int, body: Piece = b"") -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frame(kind, body))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._reader.feed(data):
                if kind == HELLO:
                    self._on_hello(self, json.loads(body))
                elif self.stream is not None:
                    self.stream.receive(kind, body)
        except (WireError, FieldError, ValueError, KeyError, TypeError, struct.error):
            # It is another protocol, and nobody knows what has arrived, so the stream is over.
            if self.stream is not None:
                self.stream.abort()
            self.abort()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.stream is not None:
            self.stream.pump()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.transport = None
        if self.stream is not None:
            self.stream.detach(self)
        self._on_lost(self)


class Stream:
    """One side of a stream: between a local socket (`socket`) and the present link.

    `socket` has write, pause_reading, resume_reading and close, like an asyncio transport.
    """

    def __init__(
        self,
        on_over: Callable[[], None] = lambda: None,
        traffic: Optional[Traffic] = None,
        sender: object = None,
    ) -> None:
        """`traffic`: that of the shared connection; `sender`: the kernel."""
        self.outgoing = Outgoing()
        self.socket: Any = None
        self.link: Optional[Link] = None
        self.received = 0
        #: Closed at both sides, or aborted.
        self.over = False
        self.on_acknowledged: Callable[[], None] = lambda: None
        #: Called when data has arrived before the socket is there.
        self.on_early: Callable[[], None] = lambda: None
        self._on_over = on_over
        self._traffic, self._sender = traffic or Traffic(), sender
        self._pace = Pace()
        # Data that arrived before the socket and is written to it at once.
        self._early: Deque[bytes] = deque()
        self._unwritten: List[bytes] = []
        self._acknowledged = 0
        self._ack_timer: Optional[asyncio.TimerHandle] = None
        self._socket_full = False
        self._finished = self._close_sent = False

    # -- the socket's side ------------------------------------------------------------------

    def join(self, socket: Any) -> None:
        """The socket is there. Give it the data that arrived before."""
        self.socket = socket
        if self.over:
            socket.close()
        while self._early and not self.over:
            self._deliver(self._early.popleft())

    @property
    def early(self) -> bytes:
        """The data that has arrived before the socket is there."""
        return b"".join(self._early)

    def send(self, data: Piece) -> None:
        """The socket has read this."""
        self.outgoing.push(data)
        self._traffic.sends(self._sender, time.monotonic())
        self.pump()
        if self.outgoing.kept >= KEPT_BYTES and self.socket is not None:
            self.socket.pause_reading()

    def finish(self) -> None:
        """The socket is closed. Tell the other side after all data."""
        self._finished = True
        self.pump()

    def pause(self) -> None:
        """The socket cannot be written to for now."""
        self._socket_full = True
        if self.link is not None and self.link.transport is not None:
            self.link.transport.pause_reading()

    def resume(self) -> None:
        self._socket_full = False
        if self.link is not None and self.link.transport is not None:
            self.link.transport.resume_reading()

    def abort(self) -> None:
        """End the stream and drop its data in transit."""
        link, self.link = self.link, None
        if link is not None:
            link.stream = None
            link.abort()
        self._end()

    # -- the link's side --------------------------------------------------------------------

    def attach(self, link: Link, received: int) -> None:
        """Use `link` from now on. The other side has `received` bytes. Raises WireError."""
        self.outgoing.rewind(received)
        former, self.link = self.link, link
        if former is not None:
            former.stream = None
            former.abort()
        link.stream = self
        self._acknowledged, self._close_sent = self.received, False
        self._early.clear()  # it was not acknowledged, so it comes again
        self._pace = Pace()
        if self._socket_full:
            link.transport.pause_reading()
        self._heard()
        self.pump()

    def detach(self, link: Link) -> None:
        """The link is lost."""
        if self.link is link:
            self.link = None

    def pump(self) -> None:
        """Send as much as possible."""
        link, outgoing = self.link, self.outgoing
        if link is None:
            return
        while link.writable:
            now = time.monotonic()
            shared = self._traffic.is_shared(now)
            if shared and outgoing.on_the_way >= self._pace.room:
                break  # to be continued by ACK
            piece = outgoing.take(SHARED_PIECE_BYTES if shared else PIECE_BYTES)
            if piece is None:
                break
            link.send(DATA, piece)
            if shared and self._pace.sent(outgoing.sent_end, outgoing.on_the_way, now):
                link.send(ASK)
        if self._finished and not self._close_sent and outgoing.all_sent:
            self._close_sent = True
            self._acknowledge()
            link.send(CLOSE)

    def receive(self, kind: int, body: bytes) -> None:
        """Handle a frame. Raises WireError."""
        if self.over:
            pass
        elif kind == DATA:
            if self.socket is None:
                self._early.append(body)
                self.on_early()
            else:
                self._deliver(body)
        elif kind == ACK:
            (offset,) = OFFSET.unpack(body)
            self.outgoing.acknowledge(offset)
            self._pace.acknowledged(offset, time.monotonic())
            self.pump()
            self._heard()
        elif kind == ASK:
            self._acknowledge()
        elif self.link is not None:  # CLOSE: nobody is there any more to read what is unsent
            if not self._close_sent:
                self._acknowledge()
                self.link.send(CLOSE)
            link, self.link = self.link, None
            link.stream = None
            link.close()
            self._end()

    def _heard(self) -> None:
        if self.outgoing.kept < KEPT_BYTES and self.socket is not None:
            self.socket.resume_reading()
        self.on_acknowledged()

    def _deliver(self, data: bytes) -> None:
        self.received += len(data)
        if self._finished:
            pass  # the socket is closed: for nobody, and acknowledged all the same
        elif not self._unwritten and len(data) < _SMALL_BYTES:
            self.socket.write(data)
        else:  # SSH's packets are small: a call for each costs more than they do
            if not self._unwritten:
                asyncio.get_running_loop().call_soon(self._write)
            self._unwritten.append(data)
        if self.received - self._acknowledged >= _ACK_BYTES:
            self._acknowledge()
        elif self._ack_timer is None:
            loop = asyncio.get_running_loop()
            self._ack_timer = loop.call_later(_ACK_SECONDS, self._acknowledge_late)

    def _write(self) -> None:
        data, self._unwritten = b"".join(self._unwritten), []
        if data:
            self.socket.write(data)

    def _acknowledge_late(self) -> None:
        self._ack_timer = None
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self.link is not None and self.received > self._acknowledged:
            self._acknowledged = self.received
            self.link.send(ACK, OFFSET.pack(self.received))

    def _end(self) -> None:
        if not self.over:
            self.over = True
            if self._ack_timer is not None:
                self._ack_timer.cancel()
            if self.socket is not None:
                self._write()
                self.socket.close()
            self._on_over()


class SocketEnd(asyncio.Protocol):
    """A socket that is one end of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.stream.join(transport)

    def data_received(self, data: bytes) -> None:
        self.stream.send(data)

    def pause_writing(self) -> None:
        self.stream.pause()

    def resume_writing(self) -> None:
        self.stream.resume()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.transport = None
        self.stream.finish()
