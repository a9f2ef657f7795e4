"""The first frame of each side on a connection that carries something else afterwards.

A frame is that of wire.py. What follows it belongs to the port or the file that was opened.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
import struct
from typing import Optional, Tuple

from .wire import Message, WireError

#: Longer than any path or answer.
_LONGEST = 256 * 1024
_HEADER = struct.Struct(">I")


def split(received: bytes) -> Optional[Tuple[Message, bytes]]:
    """The first frame and what follows it; None until the frame is complete. Raises WireError."""
    if len(received) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack_from(received)
    if length > _LONGEST:
        raise WireError("frame of {} bytes is over the limit".format(length))
    end = _HEADER.size + length
    if len(received) < end:
        return None
    try:
        message = json.loads(received[_HEADER.size : end])
    except ValueError as error:
        raise WireError("frame is not JSON: {}".format(error)) from None
    if not isinstance(message, dict):
        raise WireError("frame is not a JSON object")
    return message, received[end:]
