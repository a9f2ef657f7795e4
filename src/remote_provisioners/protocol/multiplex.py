"""Many streams over one pipe each way: frames, flow control for each stream, turns between them.

Used at both ends of a pipe: by the server, and by the program on the host that it talks to
(agent/pipe_end.py). Pure: bytes that arrive go in, bytes to be written come out.

Frames: a byte of kind, four of stream and four of length (big-endian), the body. The server gives
streams odd numbers, the host even ones; none is used twice. Each side may send WINDOW_BYTES of a
stream before the other one says by WINDOW that it has used some of them. Standard library only:
this module travels to hosts.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Deque, Dict, Iterator, List, Tuple

# OPEN: connect to a socket (body: a path or a port). RUN: run a program (JSON: its words).
# LISTEN: make a socket at a path. READY and REFUSED (body: the reason) answer these.
# ACCEPTED: somebody has connected to that socket (body: the stream that LISTEN began).
OPEN, RUN, LISTEN, READY, REFUSED, ACCEPTED = range(1, 7)
# END: no more DATA from this side. CLOSE: this side is done with the stream.
# ERRORS: what a program writes to stderr. EXIT: it has ended (body: its return code).
DATA, ERRORS, END, EXIT, CLOSE, WINDOW, PING, PONG = range(7, 15)

WINDOW_BYTES = 2 * 1024 * 1024
#: A side that holds more of a stream than this takes no more of it from its source.
FULL_BYTES = 512 * 1024
#: What a stream sends in its turn.
_PIECE_BYTES = 64 * 1024
_MAX_BODY = 64 * 1024
_HEADER = struct.Struct(">BII")
_AMOUNT = struct.Struct(">I")
_FLOWING = (DATA, ERRORS)


class PipeError(Exception):
    """What came is not what the other end of a pipe would send."""


def frame(kind: int, stream: int, body: bytes = b"") -> bytes:
    """A frame, as it is written."""
    return _HEADER.pack(kind, stream, len(body)) + body


class FrameDecoder:
    """Bytes in, frames out, however they were cut; DATA and ERRORS in the pieces that arrive."""

    def __init__(self) -> None:
        self._head = b""
        self._kind = self._stream = self._left = 0

    def feed(self, data: bytes) -> Iterator[Tuple[int, int, bytes]]:
        """Yield kind, stream and body of what `data` brings. Raises PipeError."""
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
    """What a stream has to send, in order, and how much the other side has room for."""

    def __init__(self) -> None:
        self.queue: Deque[Tuple[int, bytes]] = deque()
        self.size = 0
        self.window = WINDOW_BYTES
        #: It is among those that take turns.
        self.waits = False
        #: Its source has been told to stop.
        self.full = False


class Multiplexer:
    """One end: the streams that it knows, what is to be written, what has been used."""

    def __init__(self) -> None:
        self._streams: Dict[int, _Outgoing] = {}
        self._used: Dict[int, int] = {}
        self._control: Deque[bytes] = deque()
        self._turns: Deque[int] = deque()
        self._decoder = FrameDecoder()

    # -- sending ----------------------------------------------------------------------------

    def begin(self, stream: int) -> None:
        """A stream of this number exists from now on."""
        self._streams[stream] = _Outgoing()
        self._used[stream] = 0

    def forget(self, stream: int) -> None:
        """Nothing more of this stream goes out or is expected."""
        self._streams.pop(stream, None)
        self._used.pop(stream, None)

    def knows(self, stream: int) -> bool:
        return stream in self._streams

    def say(self, kind: int, stream: int = 0, body: bytes = b"") -> None:
        """Send a frame before all data that waits."""
        self._control.append(frame(kind, stream, body))

    def send(self, stream: int, kind: int, body: bytes = b"") -> bool:
        """Send a frame after the stream's others; whether its source may go on."""
        out = self._streams.get(stream)
        if out is None:
            return True
        out.queue.append((kind, body))
        out.size += len(body)
        self._take_turns(stream, out)
        out.full = out.full or out.size > FULL_BYTES
        return not out.full

    def drop(self, stream: int) -> None:
        """Send nothing of what waits: the stream is over at once."""
        if stream in self._streams:
            self.forget(stream)
            self.say(CLOSE, stream)

    def queued(self, stream: int) -> int:
        """Bytes of the stream that wait to be sent."""
        out = self._streams.get(stream)
        return out.size if out is not None else 0

    @property
    def idle(self) -> bool:
        """Nothing can be sent."""
        return not self._control and not self._turns

    def take(self, most: int) -> Tuple[List[bytes], List[int]]:
        """What to write next, about `most` bytes, and the streams whose source may go on."""
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
        """Yield the frames that are somebody's business here. Raises PipeError."""
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
        """That much of what arrived for the stream has gone where it belongs."""
        if stream in self._used:
            self._used[stream] += amount
            if self._used[stream] >= WINDOW_BYTES // 4:
                self.say(WINDOW, stream, _AMOUNT.pack(self._used[stream]))
                self._used[stream] = 0
