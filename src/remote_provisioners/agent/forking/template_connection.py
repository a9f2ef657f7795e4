"""The agent's end of a connection to a template: the messages of template_messages.py, on a loop.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import array
import asyncio
import json
import socket
import struct
from typing import Sequence

from ...protocol.wire import Message, encode

_LENGTH = struct.Struct(">I")


async def send(
    connection: socket.socket, message: Message, descriptors: Sequence[int] = ()
) -> None:
    """Send a message to a template. Raises OSError."""
    data = encode(message)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    sent = connection.sendmsg([data], [rights] if descriptors else [])
    if sent < len(data):  # only then: the other end may have answered and closed by now
        await asyncio.get_running_loop().sock_sendall(connection, data[sent:])


async def receive(connection: socket.socket) -> Message:
    """Receive a message from a template. Raises OSError, EOFError."""
    (length,) = _LENGTH.unpack(await _exactly(connection, _LENGTH.size))
    answer: Message = json.loads(await _exactly(connection, length))
    return answer


async def _exactly(connection: socket.socket, count: int) -> bytes:
    loop, parts = asyncio.get_running_loop(), []
    while count:
        part = await loop.sock_recv(connection, count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
