"""Frames of a stream: a byte of kind, four of length (big-endian), the body.

- HELLO: JSON, the first frame of each side (stream_opening.py)
- ACK: the number of bytes received so far, in 8 bytes
- CLOSE: empty. This side's socket is closed and nothing follows. The other side answers with CLOSE
- ASK: empty. Requests an ACK at once

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import struct
from typing import Iterator, Tuple, Union

from .wire import WireError

HELLO, DATA, ACK, CLOSE, ASK = range(1, 6)

_MAX_BODY = 64 * 1024
_HEADER = struct.Struct(">BI")
OFFSET = struct.Struct(">Q")

Piece = Union[bytes, memoryview]


def frame(kind: int, body: Piece = b"") -> bytes:
    return b"".join((_HEADER.pack(kind, len(body)), body))


class FrameReader:
    """Bytes in, frames out, however they are split. DATA comes in the pieces that arrive."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._wanted = _HEADER.size
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Tuple[int, bytes]]:
        """Yield kind and body of each frame in `data`. Raises WireError."""
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
