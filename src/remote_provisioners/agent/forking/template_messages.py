"""Messages between the agent and a template, and between a template and its kernels.

A message is four bytes of length, then JSON; descriptors may come with it. A part of the
template's program (see PARTS in template_program.py). Standard library only: this module travels to
hosts.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from typing import Any, Dict, List, Sequence, Tuple

MOST_DESCRIPTORS = 64
_LENGTH = struct.Struct(">I")

Message = Dict[str, Any]


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message, blocking. Ends the process when the other end is gone."""
    body = json.dumps(message).encode()
    data = _LENGTH.pack(len(body)) + body
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    try:
        sent = connection.sendmsg([data], [rights] if descriptors else [])
        if sent < len(data):  # only then: the other end may have read all and closed by now
            connection.sendall(data[sent:])
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def receive(connection: socket.socket) -> Tuple[Message, List[int]]:
    """Receive a message and its descriptors. Ends the process when the other end is gone."""
    size = array.array("i").itemsize
    head, ancillary, _, _ = connection.recvmsg(
        _LENGTH.size, socket.CMSG_SPACE(MOST_DESCRIPTORS * size)
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % size])
    head += _exactly(connection, _LENGTH.size - len(head))
    return json.loads(_exactly(connection, _LENGTH.unpack(head)[0])), list(descriptors)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = connection.recv(count)
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
