"""Frames between the server and the agent: 4 bytes of length, big-endian, then JSON in UTF-8.

A request is ``{"id": n, "op": name, ...}``; its answer ``{"id": n, "result": {...}}`` or
``{"id": n, "error": {"code": c, "message": m}}``; an event of the agent has no id:
``{"event": name, ...}``. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Iterator

Message = Dict[str, Any]

#: More than any resource directory. A longer frame belongs to another protocol.
MAX_FRAME = 64 * 1024 * 1024

_HEADER = struct.Struct(">I")


class WireError(Exception):
    """The peer sent an invalid frame."""


def encode(message: Message) -> bytes:
    """One frame. Lone surrogates (undecodable bytes of a path) survive as JSON escapes."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_FRAME:
        raise WireError("message of {} bytes is over the limit of {}".format(len(body), MAX_FRAME))
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Bytes in, messages out, however the bytes are split."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield each message that `data` completes. Raises WireError."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise WireError("frame of {} bytes is over the limit".format(length))
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            try:
                message = json.loads(body)
            except ValueError as error:
                raise WireError("frame is not JSON: {}".format(error)) from None
            if not isinstance(message, dict):
                raise WireError("frame is not a JSON object")
            yield message
