"""What every transport does, whoever implements it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from remote_provisioners.hosts.transport import Transport, connect
from remote_provisioners.io_thread import io_thread
from remote_provisioners.options.config import RemoteProvisionerConfigMixin
from remote_provisioners.placement.host_address import HostAddress, InnerAddress

T = TypeVar("T")

SERVE_ECHO = """
import os, socket, sys
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(8)
tcp = socket.create_server(("127.0.0.1", 0))
if os.fork():
    print(tcp.getsockname()[1], flush=True)
    os._exit(0)
os.setsid()
os.dup2(os.open(os.devnull, os.O_RDWR), 1); os.dup2(1, 2); os.dup2(1, 0)
for server in (listener, tcp):
    connection, _ = server.accept()
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()
os.unlink(path)
"""


async def connected(host: str) -> Transport:
    inner, _, name = host.rpartition(" ")
    address: HostAddress = RemoteProvisionerConfigMixin().host_spec(name).address
    if inner:
        words = ("env", "INNER=1")
        address = InnerAddress("node", through=address, words=words)
    return await connect(address, sys.executable)


def with_transport(host: str, use: Callable[[Transport], Awaitable[T]]) -> T:
    async def body() -> T:
        transport = await connected(host)
        try:
            return await asyncio.wait_for(use(transport), 20)
        finally:
            await transport.close()

    return io_thread().call_blocking(body(), 30)


class Collect(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.transport: Any = None
        self.changed = asyncio.Event()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


def test_runs_a_program_with_input(host: str) -> None:
    payload = bytes(range(256)) * 4096

    async def use(transport: Transport) -> None:
        code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()); sys.exit(3)"
        done = await transport.run([sys.executable, "-c", code], payload)
        assert (done.returncode, done.stdout) == (3, payload)

    with_transport(host, use)


@pytest.mark.parametrize(
    "word", ["", "a b", "$(id)", "`id`", "'", '"', "\\", "*", "a\nb", "é", "-n", "!x"]
)
def test_words_arrive_whole(host: str, word: str) -> None:
    async def use(transport: Transport) -> None:
        code = "import sys; sys.stdout.write(sys.argv[1])"
        done = await transport.run([sys.executable, "-X", "utf8", "-c", code, word], b"")
        assert done.stdout.decode() == word

    with_transport(host, use)


def test_says_what_a_program_said(host: str) -> None:
    async def use(transport: Transport) -> None:
        done = await transport.run([sys.executable, "-c", "import sys; sys.exit('why')"], b"")
        assert done.returncode == 1
        assert done.stderr.strip().endswith(b"why")

    with_transport(host, use)


def test_a_program_ends_before_a_busy_process_sees_it_start(host: str) -> None:
    async def use(transport: Transport) -> None:
        loop = asyncio.get_running_loop()

        def hold() -> None:
            nonlocal handle
            time.sleep(0.05)
            handle = loop.call_soon(hold)

        handle = loop.call_soon(hold)
        try:
            done = await transport.run(["true"], b"unread")
        finally:
            handle.cancel()
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    with_transport(host, use)


def test_streams_to_sockets_and_ports(host: str) -> None:
    payload = bytes(range(256)) * 40_000

    async def use(transport: Transport) -> None:
        path = f"/tmp/contract-echo-{os.getpid()}.sock"
        done = await transport.run([sys.executable, "-c", SERVE_ECHO, path], b"")
        for endpoint in (path, int(done.stdout)):
            stream = await transport.open(endpoint, Collect)
            assert isinstance(stream, Collect)
            stream.transport.write(payload)
            await stream.until(lambda stream=stream: len(stream.received) >= len(payload))
            assert stream.received == payload
            stream.transport.close()
            await stream.until(lambda stream=stream: stream.lost)

    with_transport(host, use)


#: Prints the first byte of each connection, or its end, until it gets a byte.
FIRST_BYTES = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
print("listens", flush=True)
listener.settimeout(10)
byte = b""
while not byte:
    connection, _ = listener.accept()
    connection.settimeout(10)
    byte = connection.recv(1)
    print(byte)
os.unlink(sys.argv[1])
"""


def test_a_stream_for_which_nobody_waits_any_more(host: str) -> None:
    """It was cancelled while it was opened, and is closed at once."""

    async def use(transport: Transport) -> None:
        path = f"/tmp/contract-cancelled-{secrets.token_hex(4)}.sock"
        serving = asyncio.ensure_future(
            transport.run([sys.executable, "-c", FIRST_BYTES, path], b"")
        )
        while (await transport.run(["test", "-S", path], b"")).returncode:
            pass
        opening = asyncio.ensure_future(transport.open(path, Collect))
        await asyncio.sleep(0)
        opening.cancel()
        following = await transport.open(path, Collect)
        assert isinstance(following, Collect)
        following.transport.write(b"x")
        done = await serving
        # The cancelled one may have been given up before the host was asked.
        assert done.stdout.split() in ([b"listens", b"b''", b"b'x'"], [b"listens", b"b'x'"])

    with_transport(host, use)


@pytest.mark.parametrize("endpoint", ["/tmp/nobody-listens.sock", 1])
def test_refused_where_nothing_listens(host: str, endpoint: str | int) -> None:
    async def use(transport: Transport) -> None:
        with pytest.raises((ConnectionError, FileNotFoundError)):
            await transport.open(endpoint, Collect)

    with_transport(host, use)


def test_exposes_a_socket_of_this_machine(host: str, tmp_path: Path) -> None:
    here = str(tmp_path / "here.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(here)
    listener.listen(1)
    listener.settimeout(10)
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        received.append(connection.recv(100))
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:

        async def use(transport: Transport) -> None:
            asked = (
                transport.expose(here, f"/tmp/contract-exposed-{os.getpid()}.sock")
                for _ in range(3)
            )
            there, *others = await asyncio.gather(*asked)  # starts of launchers, all at once
            assert others == [there, there]
            code = (
                "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
                "s.sendall(b'hello'); s.recv(1)"
            )
            done = await transport.run([sys.executable, "-c", code, there], b"")
            assert done.returncode == 0, done.stderr
            if there != here:
                await transport.run(["rm", "-f", there], b"")

        with_transport(host, use)
    finally:
        thread.join(10)
        listener.close()
    assert received == [b"hello"]


def test_closing_is_noticed(host: str) -> None:
    async def body() -> None:
        transport = await connected(host)
        waiting = asyncio.ensure_future(transport.wait_closed())
        await asyncio.sleep(0)
        assert not waiting.done()
        transport.abort()
        assert isinstance(await asyncio.wait_for(waiting, 5), str)

    io_thread().call_blocking(body(), 10)
