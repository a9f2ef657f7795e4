"""Ports of a kernel's host, whichever way leads to the host."""

from __future__ import annotations

import socket

from remote_provisioners.hosts.registry import host_registry
from remote_provisioners.io_thread import io_thread
from remote_provisioners.ports.port_sockets import port_sockets
from remote_provisioners.protocol.agent_requests import GetPorts
from remote_provisioners.protocol.ports import PortsFound

from ..conftest import InstallSpec, Session, Start, eventually

SECONDS = 30.0
#: Answers each connection, once that has ended, with what it sent, backwards.
BACKWARDS = """
import os, socket, threading
listener = socket.create_server(("127.0.0.1", {port}))
def serve():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()
def answer(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
    connection.sendall(data[::-1])
    connection.close()
threading.Thread(target=serve, daemon=True).start()
print(listener.getsockname()[1], flush=True)
"""
#: Sends something to each client before that has said anything.
SPEAKS_FIRST = """
import socket, threading
listener, kept = socket.create_server(("127.0.0.1", 0)), []
def serve():
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"first")
        {then}
threading.Thread(target=serve, daemon=True).start()
print(listener.getsockname()[1])
"""


def listen(session: Session, port: int = 0) -> int:
    return int(session.run(BACKWARDS.format(port=port)))


def connect(session: Session, port: int) -> socket.socket:
    """What a client gets that connects to the socket on this machine."""
    kernel = session.kernel

    async def path() -> str:
        return await (await port_sockets()).path(kernel, port)

    client = socket.socket(socket.AF_UNIX)
    client.settimeout(SECONDS)
    client.connect(io_thread().call_blocking(path(), SECONDS))
    return client


def exchange(session: Session, port: int, data: bytes) -> bytes:
    with connect(session, port) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(1 << 20):
            answer += piece
        return answer


def ports_of(session: Session) -> PortsFound:
    kernel = session.kernel
    asked = kernel.host.request(GetPorts(kernel_ids=[kernel.kernel_id]))
    found: PortsFound = io_thread().call_blocking(asked, SECONDS)
    return found


def descriptors_of_agent(session: Session) -> int:
    """How many files the kernel's parent has open."""
    return int(session.value("len(os.listdir(f'/proc/{os.getppid()}/fd'))"))


def test_bytes_go_both_ways(host: str, install_spec: InstallSpec, start: Start) -> None:
    session = start(install_spec([host]))
    assert [k.ports for k in ports_of(session).kernels] == [[]]
    port = listen(session)
    (found,) = ports_of(session).kernels[0].ports
    assert (found.number, found.pid) == (port, session.value("os.getpid()"))
    before = descriptors_of_agent(session)
    data = bytes(range(256)) * 20_000
    assert exchange(session, port, data) == data[::-1]
    with connect(session, port) as one, connect(session, port) as two:  # at the same time
        one.sendall(b"12")
        two.sendall(b"34")
        for client, answer in ((two, b"43"), (one, b"21")):
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == answer
    assert exchange(session, 1, b"x").startswith(b"HTTP/1.1 502")
    # Of three connections there were two each. A template that loads now takes one.
    eventually(lambda: descriptors_of_agent(session) < before + 4)


def test_what_a_kernel_has_started_is_its_own(
    host: str, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec([host]))
    session.run(f"code = {BACKWARDS.format(port=0) + 'serve()'!r}")
    session.run(
        "import subprocess, sys\n"
        "def begin(**options):\n"
        "    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, "
        "text=True, **options)\n"
        "    print(child.stdout.readline())\n"
        "    return child"
    )
    ports = {
        int(session.run("near = begin()")),
        int(session.run("far = begin(start_new_session=True)")),
    }
    found = ports_of(session).kernels[0].ports
    assert {port.number for port in found} == ports
    assert exchange(session, min(ports), b"ab") == b"ba"
    session.run("for child in (near, far): child.kill(); child.wait(); child.stdout.close()")
    assert not ports_of(session).kernels[0].ports


def test_the_registry_closes_what_a_port_has_opened(
    host: str, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec([host]))
    client = connect(session, int(session.run(SPEAKS_FIRST.format(then="kept.append(connection)"))))
    assert client.recv(5) == b"first"

    async def lose() -> None:
        for known in (await host_registry()).hosts.values():
            (await known.link()).transport.abort()

    if host != "localhost":
        io_thread().call_blocking(lose(), SECONDS)
        assert client.recv(9) == b""
    client.close()
    assert exchange(session, listen(session), b"back again")[::-1] == b"back again"


def test_a_program_that_speaks_first_and_leaves(
    host: str, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec([host]))
    port = int(session.run(SPEAKS_FIRST.format(then="connection.close()")))
    assert exchange(session, port, b"") == b"first"
