"""ZMTP 3.0, the protocol of ZeroMQ's sockets (https://rfc.zeromq.org/spec/23/), as far as
publishing needs it: greeting, the NULL mechanism, messages, subscriptions.

A message stays in its wire format, with the headers of its frames, so it can be sent to another
socket unchanged. Pure. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import struct
from typing import Iterator, List, Sequence, Tuple

_MORE, _LONG, _COMMAND = 1, 2, 4
_SUBSCRIPTIONS = {b"SUBSCRIBE": b"\1", b"CANCEL": b"\0"}
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
# Version 3.0: peers then send subscriptions as messages, not as the commands of 3.1.
GREETING = _SIGNATURE + b"\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)


class ZmtpError(Exception):
    """The peer does not speak ZMTP 3 without encryption."""


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return struct.pack(">BQ", flags | _LONG, len(body)) + body


def message(bodies: Sequence[bytes]) -> bytes:
    """A message of several frames."""
    parts = [frame(body, _MORE) for body in bodies[:-1]]
    return b"".join([*parts, frame(bodies[-1])])


def command(name: bytes, body: bytes = b"") -> bytes:
    return frame(bytes((len(name),)) + name + body, _COMMAND)


def command_frame(body: bytes) -> bytes:
    """A command's body, in wire format again."""
    return frame(body, _COMMAND)


def ready(socket_type: bytes) -> bytes:
    name = b"Socket-Type"
    value = struct.pack(">I", len(socket_type)) + socket_type
    return command(b"READY", bytes((len(name),)) + name + value)


def header(data: bytes, position: int) -> Tuple[int, int, int]:
    """A frame's flags, and the begin and end of its body (-1: not known yet)."""
    if len(data) < position + 2:
        return 0, position + 2, -1
    flags = data[position]
    if not flags & _LONG:
        return flags, position + 2, position + 2 + data[position + 1]
    if len(data) < position + 9:
        return flags, position + 9, -1
    return (
        flags,
        position + 9,
        position + 9 + int.from_bytes(data[position + 1 : position + 9], "big"),
    )


def greeting(socket_type: bytes) -> bytes:
    """Everything that a socket of version 3.1 sends before its first message."""
    return _SIGNATURE + b"\3\1" + GREETING[12:] + ready(socket_type)


def end_of_handshake(data: bytes) -> int:
    """The end of a peer's greeting and READY or ERROR in its data; -1: not yet complete."""
    _, _, end = header(data, len(GREETING))
    return end if end <= len(data) else -1


def identity(handshake: bytes) -> bytes:
    """The identity in a peer's complete handshake, by which a ROUTER addresses it; b"" for none."""
    _, begin, end = header(handshake, len(GREETING))
    body = handshake[begin:end]
    position = 1 + body[0] if body else 0
    if body[1:position] != b"READY":
        return b""
    while position < len(body):
        name, position = _sized(body, position, 1)
        value, position = _sized(body, position, 4)
        if name.lower() == b"identity":
            return value
    return b""


def _sized(body: bytes, position: int, size: int) -> Tuple[bytes, int]:
    """The bytes after a length of `size` bytes, and the position behind them."""
    begin = position + size
    end = begin + int.from_bytes(body[position:begin], "big")
    return body[begin:end], end


def bodies(raw: bytes, most: int = 0) -> List[bytes]:
    """The frames of a message, or its first `most` frames."""
    found: List[bytes] = []
    position = 0
    while 0 <= position < len(raw) and (not most or len(found) < most):
        _, begin, position = header(raw, position)
        found.append(raw[begin:position])
    return found


def topic(raw: bytes) -> bytes:
    """The first frame of a message."""
    _, begin, end = header(raw, 0)
    return raw[begin:end]


#: A decoder yields messages in wire format, bodies of commands, and large messages in parts.
MESSAGE, COMMAND, BEGINNING, PART, END = range(5)


class Decoder:
    """Bytes in, messages and commands out, however the bytes are split.

    `large`: a message that is incomplete after this many bytes is yielded in parts as they
    arrive; 0: never.
    """

    def __init__(self, large: int = 0) -> None:
        self._large = large
        self._pieces: List[bytes] = []
        self._size = 0
        self._needed = 2
        self._scanned = 0
        # Within a large message: the frame's remaining bytes, or the received part of its header.
        self._in_parts = self._more = False
        self._left = 0
        self._head = b""

    def feed(self, data: bytes) -> Iterator[Tuple[int, bytes]]:
        """Yield the kind (see above), and the message in wire format or the command's body."""
        if self._in_parts:
            used = 0
            for kind, end in self._parts(data):
                yield kind, data[used:end]
                used = end
            data = data[used:]
            if self._in_parts or not data:
                return
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed and not self._is_large:
            return  # of a large frame: joined once it is complete
        data = b"".join(self._pieces) if len(self._pieces) > 1 else data
        start, position = 0, self._scanned
        while True:
            flags, begin, end = header(data, position)
            if end < 0 or end > len(data):
                self._needed = begin if end < 0 else end
                break
            position = end
            if flags & _COMMAND:
                yield COMMAND, data[begin:end]
                start = end
            elif not flags & _MORE:
                yield MESSAGE, data[start:end]
                start = end
        self._pieces = [data[start:]] if start < len(data) else []
        self._size = len(data) - start
        self._needed -= start
        self._scanned = position - start
        if self._is_large:
            yield BEGINNING, self._begin_parts(data[start:])

    @property
    def _is_large(self) -> bool:
        return bool(self._large) and self._size >= self._large

    def _begin_parts(self, data: bytes) -> bytes:
        flags, _, end = header(data, self._scanned)
        if flags & _COMMAND:
            raise ZmtpError("a command of more than {} bytes".format(self._large))
        self._in_parts, self._more = True, bool(flags & _MORE)
        self._head = data[self._scanned :] if end < 0 else b""
        self._left = 0 if end < 0 else end - len(data)
        if end < 0:  # the next frame's header is cut
            self._more = True
        self._pieces, self._size, self._needed, self._scanned = [], 0, 2, 0
        return data

    def _parts(self, data: bytes) -> Iterator[Tuple[int, int]]:
        """The part of a large message in `data`: PART or END, and its end."""
        position = 0
        while True:
            taken = min(self._left, len(data) - position)
            self._left -= taken
            position += taken
            if self._left:
                break
            if not self._more and not self._head:
                self._in_parts = False
                yield END, position
                return
            if position == len(data):
                break
            known = len(self._head)
            self._head += data[position : position + 9 - known]
            flags, begin, end = header(self._head, 0)
            if end < 0:
                position = len(data)
                break
            position += begin - known
            self._more, self._left, self._head = bool(flags & _MORE), end - begin, b""
        if position:
            yield PART, position


class Connection:
    """One side of a connection. The caller takes the bytes to send from `output`.

    `greeted`: the other side already has the :func:`greeting` of this type. `large`: see Decoder.
    """

    def __init__(self, socket_type: bytes, greeted: bool = False, large: int = 0) -> None:
        self.output = b"" if greeted else GREETING
        self._greeted = greeted
        #: Whether the handshake is done.
        self.ready = False
        self._type = socket_type
        self._greeting = b""
        self._decoder = Decoder(large)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield messages in wire format. Raises ZmtpError."""
        for _, content in self.feed_parts(data):
            yield content

    def feed_parts(self, data: bytes) -> Iterator[Tuple[int, bytes]]:
        """Yield messages, large ones in parts: see Decoder. Raises ZmtpError."""
        if len(self._greeting) < len(GREETING):
            missing = len(GREETING) - len(self._greeting)
            self._greeting += data[:missing]
            data = data[missing:]
            version, mechanism = self._greeting[10:11], self._greeting[12:32]
            if (
                self._greeting[:1] != b"\xff"
                or b"" < version < b"\3"
                or (len(mechanism) == 20 and mechanism != GREETING[12:32])
            ):
                raise ZmtpError("no ZMTP 3 with mechanism NULL")
            if len(self._greeting) < len(GREETING):
                return
            if not self._greeted:
                self.output += ready(self._type)
        for kind, content in self._decoder.feed(data) if data else ():
            if kind == COMMAND:
                for subscription in self._command(content):
                    yield MESSAGE, subscription
            else:
                yield kind, content

    def take_output(self) -> bytes:
        taken, self.output = self.output, b""
        return taken

    def _command(self, body: bytes) -> Iterator[bytes]:
        name, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if name in _SUBSCRIPTIONS:  # of 3.1; messages before
            yield frame(_SUBSCRIPTIONS[name] + rest)
        if name == b"READY":
            self.ready = True
        elif name == b"PING":
            self.output += command(b"PONG", rest[2:])
        elif name == b"ERROR":
            raise ZmtpError("refused: {!r}".format(rest[1:]))
