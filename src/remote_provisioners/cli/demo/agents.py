"""End the agents of demo hosts, which outlive their connections."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

from ...protocol.wire import Decoder, encode

_SECONDS = 5.0


def end_agents(directory: Path) -> None:
    """End every agent below `directory` (a demo host's TMPDIR), with all of its kernels."""
    for path in directory.glob("remote-provisioners-*/*/agent.sock"):
        pid = _pid(path)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            _wait_ended(pid)


def _pid(path: Path) -> int | None:
    """The id of the process that serves the socket `path`, as it reports it."""
    decoder = Decoder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(encode({"id": 1, "op": "hello", "owner": "demo"}))
            while data := client.recv(65536):
                for message in decoder.feed(data):
                    return int(message["result"]["pid"])
        except OSError:
            return None  # it has just ended
    return None


def _wait_ended(pid: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
