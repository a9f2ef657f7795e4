"""An agent that ends leaves no files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

AGENT = """
import socket, sys
from remote_provisioners.agent import main
copies = []
class Copied(socket.socket):
    def listen(self, *backlog):
        super().listen(*backlog)
        copies.append(self.dup())
socket.socket = Copied
main.main(sys.argv[1], int(sys.argv[2]))
"""


def test_a_child_that_still_has_its_socket_is_no_successor(tmp_path: Path) -> None:
    """A child has it between fork and exec: connections to it succeed, and nobody accepts them."""
    directory = tmp_path / "agents" / "abc-0123"
    directory.mkdir(parents=True, mode=0o700)
    is_ready, ready = os.pipe()
    try:
        words = [sys.executable, "-c", AGENT, str(directory), str(ready)]
        with subprocess.Popen(words, pass_fds=[ready]) as agent:
            os.close(ready)
            assert os.read(is_ready, 1) == b"+"
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(20) == 0
    finally:
        os.close(is_ready)
    assert list(tmp_path.iterdir()) == []
