"""A TCP port of 127.0.0.1 for a program that takes a number and binds it later."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST = 10_000


def free_port() -> int:
    """A free port that the system gives to nobody who asks for any port.

    Other tests ask for any port all the time. One that the system chose for us could be theirs
    before our program binds it, or while it restarts.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_FIRST, low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
