"""A stream of bytes, each way, that outlives the connections it travels over.

What a side has sent is kept until the other acknowledges it. When a link is lost the stream stays;
the next link begins with how much each side has received, and each sends again from there. Used at
both ends: by the server for a client's socket, by the agent for the kernel's.

Frames: a byte of kind, four of length (big-endian), the body. HELLO is JSON, the first of each
side (agent/stream_server.py); ACK has the number of bytes received so far, 8 bytes; CLOSE is empty:
this side's socket is closed, nothing follows, and the other side answers with CLOSE; ASK is empty:
ACK is wanted at once. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections import deque
from typing import Any, Callable, Deque, Iterator, List, Optional, Tuple, Union

from .pace import SHARED_PIECE_BYTES, Pace, Traffic
from .wire import Message, WireError

HELLO, DATA, ACK, CLOSE, ASK = range(1, 6)

#: What a stream keeps, each way, before it stops reading its socket.
KEPT_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
_ACK_BYTES = 1024 * 1024
_ACK_SECONDS = 0.02
_SMALL_BYTES = 16 * 1024
_MAX_BODY = 64 * 1024
_HEADER = struct.Struct(">BI")
_OFFSET = struct.Struct(">Q")

Piece = Union[bytes, memoryview]


class FrameReader:
    """Bytes in, frames out, however they were cut; DATA comes in the pieces that arrive."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._wanted = _HEADER.size
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Tuple[int, bytes]]:
        """Yield kind and body of what `data` brings. Raises WireError."""
        position = 0
        while position < len(data):
            if self._left:  # within DATA
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                yield DATA, piece
                continue
            missing = self._wanted - len(self._head)
            self._head += data[position : position + missing]
            position += missing
            if len(self._head) < self._wanted:
                return
            kind, length = _HEADER.unpack_from(self._head)
            if kind == DATA:
                self._left = length
            elif kind not in (HELLO, ACK, CLOSE, ASK) or length > _MAX_BODY:
                raise WireError("no frame of a stream: kind {}, length {}".format(kind, length))
            elif len(self._head) < _HEADER.size + length:
                self._wanted = _HEADER.size + length
                continue
            else:
                yield kind, bytes(self._head[_HEADER.size :])
            self._head.clear()
            self._wanted = _HEADER.size


class Outgoing:
    """What is to be sent, and what has been sent and is not acknowledged; offsets count bytes."""

    def __init__(self) -> None:
        #: All before it has arrived at the other side.
        self.acknowledged = 0
        #: Where the next bytes will begin.
        self.end = 0
        #: What is before it has been sent over the present link.
        self.sent_end = 0
        self._base = 0  # where the oldest piece that is kept begins
        self._sent: Deque[Piece] = deque()
        self._unsent: Deque[Piece] = deque()

    @property
    def kept(self) -> int:
        """Bytes not acknowledged."""
        return self.end - self.acknowledged

    @property
    def on_the_way(self) -> int:
        """Bytes sent and not acknowledged."""
        return self.sent_end - self.acknowledged

    @property
    def all_sent(self) -> bool:
        return not self._unsent

    def push(self, data: Piece) -> None:
        if data:
            self._unsent.append(data)
            self.end += len(data)

    def take(self, most: int = _PIECE_BYTES) -> Optional[Piece]:
        """The next piece to send over the present link, None when all is sent."""
        if not self._unsent:
            return None
        piece = self._unsent.popleft()
        if len(piece) > most:
            view = memoryview(piece)
            self._unsent.appendleft(view[most:])
            piece = view[:most]
        self._sent.append(piece)
        self.sent_end += len(piece)
        return piece

    def acknowledge(self, offset: int) -> None:
        """The other side has received all before `offset`. Raises WireError."""
        if not self.acknowledged <= offset <= self.sent_end:
            raise WireError("{} bytes acknowledged, {} sent".format(offset, self.sent_end))
        self.acknowledged = offset
        while self._sent and self._base + len(self._sent[0]) <= offset:
            self._base += len(self._sent.popleft())

    def rewind(self, offset: int) -> None:
        """Over a new link: send from `offset` on, all before has arrived. Raises WireError."""
        self.acknowledge(offset)
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        if self._unsent and offset > self._base:
            self._unsent[0] = memoryview(self._unsent[0])[offset - self._base :]
        self._base = self.sent_end = offset


class Link(asyncio.Protocol):
    """One connection that a stream travels over, until it is lost or another one comes."""

    def __init__(
        self, on_hello: Callable[[Link, Message], None], on_lost: Callable[[Link], None]
    ) -> None:
        self.stream: Optional[Stream] = None
        self.transport: Any = None
        self.writable = True
        self._reader = FrameReader()
        self._on_hello = on_hello
        self._on_lost = on_lost

    def say(self, message: Message) -> None:
        """Send HELLO."""
        self.send(HELLO, json.dumps(message).encode("ascii"))

    def send(self, kind: int, body: Piece = b"") -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join((_HEADER.pack(kind, len(body)), body)))

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
        except (WireError, ValueError, KeyError, TypeError, struct.error):
            # Somebody else's protocol. Nobody would know what has arrived: over for good.
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
    """The stream, at one side: between a socket here (`socket`) and the link of the moment.

    `socket` has write, pause_reading, resume_reading and close, as an asyncio transport has.
    """

    def __init__(
        self,
        on_over: Callable[[], None] = lambda: None,
        traffic: Optional[Traffic] = None,
        sender: object = None,
    ) -> None:
        """`traffic`: of the connection that it shares with others; `sender`: the kernel."""
        self.outgoing = Outgoing()
        self.socket: Any = None
        self.link: Optional[Link] = None
        self.received = 0
        #: Closed at both sides, or given up.
        self.over = False
        self.on_acknowledged: Callable[[], None] = lambda: None
        self._on_over = on_over
        self._traffic, self._sender = traffic or Traffic(), sender
        self._pace = Pace()
        # What came before the socket, and what is to be written to it at once.
        self._early: Deque[bytes] = deque()
        self._unwritten: List[bytes] = []
        self._acknowledged = 0
        self._ack_timer: Optional[asyncio.TimerHandle] = None
        self._socket_full = False
        self._finished = self._close_sent = False

    # -- the socket's side ------------------------------------------------------------------

    def join(self, socket: Any) -> None:
        """The socket is there: it gets what came before."""
        self.socket = socket
        if self.over:
            socket.close()
        while self._early and not self.over:
            self._deliver(self._early.popleft())

    def send(self, data: Piece) -> None:
        """The socket has read this."""
        self.outgoing.push(data)
        self._traffic.sends(self._sender, time.monotonic())
        self.pump()
        if self.outgoing.kept >= KEPT_BYTES and self.socket is not None:
            self.socket.pause_reading()

    def finish(self) -> None:
        """The socket is closed: the other side is told after all that it has read."""
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
        """Over for good, whatever is on the way."""
        link, self.link = self.link, None
        if link is not None:
            link.stream = None
            link.abort()
        self._end()

    # -- the link's side --------------------------------------------------------------------

    def attach(self, link: Link, received: int) -> None:
        """Travel over `link` from now on; the other side has `received` bytes. Raises WireError."""
        self.outgoing.rewind(received)
        former, self.link = self.link, link
        if former is not None:
            former.stream = None
            former.abort()
        link.stream = self
        self._acknowledged, self._close_sent = self.received, False
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
        """Send what can be sent."""
        link, outgoing = self.link, self.outgoing
        if link is None:
            return
        while link.writable:
            now = time.monotonic()
            shared = self._traffic.is_shared(now)
            if shared and outgoing.on_the_way >= self._pace.room:
                break  # to be continued by ACK
            piece = outgoing.take(SHARED_PIECE_BYTES if shared else _PIECE_BYTES)
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
        """A frame came. Raises WireError."""
        if self.over:
            pass
        elif kind == DATA:
            if self.socket is None:
                self._early.append(body)
            else:
                self._deliver(body)
        elif kind == ACK:
            (offset,) = _OFFSET.unpack(body)
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
            self.link.send(ACK, _OFFSET.pack(self.received))

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
