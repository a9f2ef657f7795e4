"""ZMTP 3.0, the protocol of ZeroMQ's sockets (https://rfc.zeromq.org/spec/23/), as far as
publishing goes: greeting, the NULL mechanism, messages, subscriptions.

A message is kept as it is on the wire, its frames with their headers: what one socket sent can be
sent to another as it is. Pure. Standard library only: this module travels to hosts.
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


def ready(socket_type: bytes) -> bytes:
    name = b"Socket-Type"
    value = struct.pack(">I", len(socket_type)) + socket_type
    return command(b"READY", bytes((len(name),)) + name + value)


def header(data: bytes, position: int) -> Tuple[int, int, int]:
    """Of the frame there: flags, where its body begins, where it ends (-1: not known yet)."""
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
    """All that a socket of today, of version 3.1, says before its first message."""
    return _SIGNATURE + b"\3\1" + GREETING[12:] + ready(socket_type)


def end_of_handshake(data: bytes) -> int:
    """Where a peer's greeting and READY, or its ERROR, end in what it has sent; -1: not yet."""
    _, _, end = header(data, len(GREETING))
    return end if end <= len(data) else -1


def bodies(raw: bytes) -> List[bytes]:
    """The frames of a message."""
    found, position = [], 0
    while position < len(raw):
        _, begin, position = header(raw, position)
        found.append(raw[begin:position])
    return found


def topic(raw: bytes) -> bytes:
    """The first frame of a message."""
    _, begin, end = header(raw, 0)
    return raw[begin:end]


class Decoder:
    """Bytes in, messages and commands out, however the bytes were cut."""

    def __init__(self) -> None:
        self._pieces: List[bytes] = []
        self._size = 0
        self._needed = 2
        self._scanned = 0

    def feed(self, data: bytes) -> Iterator[Tuple[bool, bytes]]:
        """Yield whether it is a command, and the message on the wire or the command's body."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:  # of a large frame: joined once it is complete
            return
        data = b"".join(self._pieces) if len(self._pieces) > 1 else data
        start, position = 0, self._scanned
        while True:
            flags, begin, end = header(data, position)
            if end < 0 or end > len(data):
                self._needed = begin if end < 0 else end
                break
            position = end
            if flags & _COMMAND:
                yield True, data[begin:end]
                start = end
            elif not flags & _MORE:
                yield False, data[start:end]
                start = end
        self._pieces = [data[start:]] if start < len(data) else []
        self._size = len(data) - start
        self._needed -= start
        self._scanned = position - start


class Connection:
    """One side of a connection. `output` is what to send, to be taken by the caller.

    `greeted`: the other side has had :func:`greeting` of this type already.
    """

    def __init__(self, socket_type: bytes, greeted: bool = False) -> None:
        self.output = b"" if greeted else GREETING
        self._greeted = greeted
        #: Whether the handshake is done.
        self.ready = False
        self._type = socket_type
        self._greeting = b""
        self._decoder = Decoder()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield messages, as they are on the wire. Raises ZmtpError."""
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
        for is_command, content in self._decoder.feed(data) if data else ():
            if is_command:
                yield from self._command(content)
            else:
                yield content

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
