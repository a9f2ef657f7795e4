"""Who is at the other end of a unix socket.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any


def same_user(connection: Any) -> bool:
    """Whether the peer of a unix socket is our own user. The socket's mode ensures that too."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())
