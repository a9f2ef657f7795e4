"""The unix sockets of an agent. Only the agent's own user can open them, and may use them.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any


def bind_private(path: str) -> socket.socket:
    """A bound socket of mode 0600. Raises OSError, also if something is at `path`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    return listener


def bind_anew(path: str) -> socket.socket:
    """Like `bind_private`, in place of what a former agent has left. Raises OSError."""
    if os.path.lexists(path):
        os.unlink(path)
    return bind_private(path)


def same_user(connection: Any) -> bool:
    """Whether the peer of a unix socket is our own user. The socket's mode ensures that too."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())
