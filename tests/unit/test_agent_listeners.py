"""Who listens on the ports of this machine, by /proc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from remote_provisioners.agent.ports import listeners as found

from ..conftest import eventually

USER = os.getuid()


def at(port: int) -> list[found.Listener]:
    return [listener for listener in found.listeners(USER) if listener.port == port]


@pytest.mark.parametrize(
    ("family", "address", "reached"),
    [
        (socket.AF_INET, "127.0.0.1", ["127.0.0.1"]),
        (socket.AF_INET, "0.0.0.0", ["127.0.0.1"]),
        (socket.AF_INET, "127.1.2.3", ["127.1.2.3"]),
        (socket.AF_INET6, "::1", ["::1"]),
        (socket.AF_INET6, "::", ["::1"]),
        (socket.AF_INET6, "::ffff:127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_where_to_connect(family: int, address: str, reached: list[str]) -> None:
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert at(port) == []  # bound, and not listening
        listener.listen()
        assert [one.address for one in at(port)] == reached
        for one in at(port):
            socket.create_connection((one.address, port), 5).close()
            holders = found.holders([one.inode], USER)
            assert os.getpid() in {holder.pid for holder in holders[one.inode]}
            assert found.holds(os.getpid(), one.inode)
            assert not found.holds(1 if os.getpid() != 1 else 2, one.inode)
            assert one.inode in found.sockets_of(os.getpid())
        assert [one for one in found.listeners(USER + 1) if one.port == port] == []


def test_a_program_has_a_name() -> None:
    for words, name in (
        ([sys.executable, "-m", "http.server", "--bind=127.0.0.1", "0"], "http.server"),
        ([sys.executable, "-c", "input()"], os.path.basename(sys.executable)),
        (["sleep", "60"], "sleep"),
    ):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            # It is this program until the other one is executed.
            eventually(lambda pid=process.pid, name=name: found.program_of(pid) == name)
            process.kill()
    assert found.program_of(2**22 + 1) == ""


def test_the_user_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = listener.getsockname()
        with socket.create_connection(here, 5) as client:
            assert found.user_of(here, client.getsockname()) == USER
            assert found.user_of(here, ("127.0.0.1", 1)) == -1
