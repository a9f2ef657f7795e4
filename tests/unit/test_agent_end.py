"""An agent that ends leaves no files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

IDLE_AGENT = """
import sys
from remote_provisioners.agent import agent, main
agent.IDLE_SECONDS, agent.TICK_SECONDS = 0.3, 0.05
main.main(sys.argv[1], int(sys.argv[2]))
"""
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


@contextlib.contextmanager
def agent_in(directory: Path, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that listens."""
    directory.mkdir(parents=True, mode=0o700)
    is_ready, ready = os.pipe()
    try:
        words = [sys.executable, "-c", program, str(directory), str(ready)]
        with subprocess.Popen(words, pass_fds=[ready]) as agent:
            os.close(ready)
            assert os.read(is_ready, 1) == b"+"
            yield agent
    finally:
        os.close(is_ready)


def test_a_child_that_still_has_its_socket_is_no_successor(tmp_path: Path) -> None:
    """A child has it between fork and exec: connections to it succeed, and nobody accepts them."""
    with agent_in(tmp_path / "agents" / "abc-0123", AGENT) as agent:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_agents_of_other_versions_that_look_for_it_do_not_keep_it(tmp_path: Path) -> None:
    """They connect to its socket again and again. No server does, so it ends."""
    directory, looks = tmp_path / "agents" / "abc-0123", 0
    with agent_in(directory, IDLE_AGENT) as agent:
        until = time.monotonic() + 5
        while agent.poll() is None:
            with socket.socket(socket.AF_UNIX) as look:
                looks += look.connect_ex(str(directory / "agent.sock")) == 0
            time.sleep(0.02)
            if time.monotonic() > until:
                agent.kill()
        assert (agent.wait(), looks > 0) == (0, True)
