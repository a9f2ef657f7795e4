"""The unix sockets of an agent, which only its own user can open.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import socket


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
