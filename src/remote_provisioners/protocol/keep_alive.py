"""TCP keep-alive as both ends of a launcher's connection have it.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import socket


def keep_alive(connection: socket.socket) -> None:
    """Have a peer that is gone without a word noticed within half a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
