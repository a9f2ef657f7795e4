"""Many streams over one pipe in each direction: frames, flow control and fair turns.

Both ends of a pipe use it: the server, and the program on the host (agent/pipe/host_end.py). Pure:
received bytes go in, bytes to write come out.

A frame has a byte of kind, four of stream and four of length (big-endian), and the body. The
server uses odd stream numbers, the host even ones, and none twice. Each side may send
WINDOW_BYTES of a stream until the other side reports with WINDOW that it has used some of them.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import struct
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes as long to import as all the rest
    from typing import Deque, Dict, Iterator, List, Tuple

# OPEN: connect to a socket (body: a path or a port). RUN: run a program (body: its words, with
# a zero byte between them).
# LISTEN: make a socket at a path. READY and REFUSED (body: the reason) answer these.
# ACCEPTED: a client has connected to that socket (body: the stream that LISTEN began).
OPEN, RUN, LISTEN, READY, REFUSED, ACCEPTED = range(1, 7)
# END: no more DATA from this side. CLOSE: this side is done with the stream.
# ERRORS: what a program writes to stderr. EXIT: it has ended (body: its return code).
DATA, ERRORS, END, EXIT, CLOSE, WINDOW, PING, PONG = range(7, 15)

WINDOW_BYTES = 2 * 1024 * 1024
#: A side that holds more of a stream than this stops reading its source.
FULL_BYTES = 512 * 1024
#: The bytes that a stream sends in its turn.
_PIECE_BYTES = 64 * 1024
_MAX_BODY = 64 * 1024
_HEADER = struct.Struct(">BII")
_AMOUNT = struct.Struct(">I")
_FLOWING = (DATA, ERRORS)


class PipeError(Exception):
    """The received bytes are not from the other end of a pipe."""


def frame(kind: int, stream: int, body: bytes = b"") -> bytes:
    """Encode a frame."""
    return _HEADER.pack(kind, stream, len(body)) + body


class FrameDecoder:
    """Bytes in, frames out, however they are split. DATA and ERRORS come as they arrive."""

    def __init__(self) -> None:
        self._head = b""
        self._kind = self._stream = self._left = 0

    def feed(self, data: bytes) -> Iterator[Tuple[int, int, bytes]]:
        """Yield kind, stream and body of each frame in `data`. Raises PipeError."""
        if self._head:
            data, self._head = self._head + data, b""
        position, size = 0, len(data)
        while position < size:
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                yield self._kind, self._stream, piece
                continue
            body = position + _HEADER.size
            if body > size:
                break
            kind, stream, length = _HEADER.unpack_from(data, position)
            if kind in _FLOWING:
                self._kind, self._stream, self._left = kind, stream, length
                position = body
            elif not OPEN <= kind <= PONG or length > _MAX_BODY:
                raise PipeError("no frame: kind {}, length {}".format(kind, length))
            elif body + length > size:
                break
            else:
                position = body + length
                yield kind, stream, data[body:position]
        self._head = data[position:]


class _Outgoing:
    """A stream's data to send, and the room at the other side."""

    def __init__(self) -> None:
        self.queue: Deque[Tuple[int, bytes]] = deque()
        self.size = 0
        self.window = WINDOW_BYTES
        #: Whether it takes turns.
        self.waits = False
        #: Whether its source was told to stop.
        self.full = False


class Multiplexer:
    """One end: its streams, the data to write, and the data used."""

    def __init__(self) -> None:
        self._streams: Dict[int, _Outgoing] = {}
        self._used: Dict[int, int] = {}
        self._control: Deque[bytes] = deque()
        self._turns: Deque[int] = deque()
        self._decoder = FrameDecoder()

    # -- sending ----------------------------------------------------------------------------

    def begin(self, stream: int) -> None:
        """Add a stream with this number."""
        self._streams[stream] = _Outgoing()
        self._used[stream] = 0

    def forget(self, stream: int) -> None:
        """Remove a stream."""
        self._streams.pop(stream, None)
        self._used.pop(stream, None)

    def knows(self, stream: int) -> bool:
        return stream in self._streams

    def say(self, kind: int, stream: int = 0, body: bytes = b"") -> None:
        """Send a frame before all waiting data."""
        self._control.append(frame(kind, stream, body))

    def send(self, stream: int, kind: int, body: bytes = b"") -> bool:
        """Send a frame after the stream's others. Returns whether its source may continue."""
        out = self._streams.get(stream)
        if out is None:
            return True
        out.queue.append((kind, body))
        out.size += len(body)
        self._take_turns(stream, out)
        out.full = out.full or out.size > FULL_BYTES
        return not out.full

    def drop(self, stream: int) -> None:
        """Drop a stream's waiting data, because it is over."""
        if stream in self._streams:
            self.forget(stream)
            self.say(CLOSE, stream)

    def queued(self, stream: int) -> int:
        """The stream's waiting bytes."""
        out = self._streams.get(stream)
        return out.size if out is not None else 0

    @property
    def idle(self) -> bool:
        """Whether nothing can be sent."""
        return not self._control and not self._turns

    def take(self, most: int) -> Tuple[List[bytes], List[int]]:
        """The next bytes to write, about `most`, and the streams whose source may continue."""
        written, size = list(self._control), 0
        self._control.clear()
        relieved: List[int] = []
        while self._turns and size < most:
            stream = self._turns.popleft()
            out = self._streams.get(stream)
            if out is None:
                continue
            out.waits = False
            kind, body = out.queue.popleft()
            if kind in _FLOWING:
                room = min(_PIECE_BYTES, out.window)
                if len(body) > room:
                    rest = memoryview(body)
                    out.queue.appendleft((kind, rest[room:]))  # type: ignore[arg-type]
                    body = rest[:room]  # type: ignore[assignment]
                out.window -= len(body)
                out.size -= len(body)
            size += len(body)
            written.append(_HEADER.pack(kind, stream, len(body)))
            written.append(body)
            if kind in (EXIT, CLOSE):
                self.forget(stream)
            else:
                self._take_turns(stream, out)
            if out.full and out.size <= FULL_BYTES // 2:
                out.full = False
                relieved.append(stream)
        return written, relieved

    def _take_turns(self, stream: int, out: _Outgoing) -> None:
        if out.queue and not out.waits and (out.window or out.queue[0][0] not in _FLOWING):
            out.waits = True
            self._turns.append(stream)

    # -- receiving --------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Tuple[int, int, bytes]]:
        """Yield the frames for this side's streams. Raises PipeError."""
        for kind, stream, body in self._decoder.feed(data):
            if kind == WINDOW:
                out = self._streams.get(stream)
                if out is not None:
                    out.window += _AMOUNT.unpack(body)[0]
                    self._take_turns(stream, out)
            elif kind == PING:
                self.say(PONG)
            elif kind != PONG:
                yield kind, stream, body

    def used(self, stream: int, amount: int) -> None:
        """Report that this many received bytes of a stream have been delivered."""
        if stream in self._used:
            self._used[stream] += amount
            if self._used[stream] >= WINDOW_BYTES // 4:
                self.say(WINDOW, stream, _AMOUNT.pack(self._used[stream]))
                self._used[stream] = 0
