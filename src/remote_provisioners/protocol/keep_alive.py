"""TCP keep-alive for both ends of a launcher's connection.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import socket


def keep_alive(connection: socket.socket) -> None:
    """Notice within half a minute that a peer has vanished."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
