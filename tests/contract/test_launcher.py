"""The launcher of containers, as a node runs it, here: who is let through to its agent."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remote_provisioners.engines import node_transport
from remote_provisioners.engines.certificate import identity
from remote_provisioners.engines.launcher import launcher_source
from remote_provisioners.engines.node_address import NodeAddress
from remote_provisioners.engines.node_reports import NodeReports
from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts.agent_channel import AgentChannel
from remote_provisioners.hosts.transport import Transport, connect
from remote_provisioners.protocol.agent_requests import Hello, Leave
from remote_provisioners.protocol.version import VERSION


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))


@asynccontextmanager
async def launcher(
    directory: Path, said: str = "", fingerprint: str = ""
) -> AsyncIterator[tuple[subprocess.Popen[str], asyncio.Future[dict[str, object]], str]]:
    """A launcher, what it will report, and the secret that it should say (it says `said`)."""
    reports, secret = NodeReports(), secrets.token_urlsafe(16)
    address = await reports.address("127.0.0.1", "")
    report = reports.expect(secret)
    file = directory / "launcher.py"
    file.write_text(launcher_source(said or secret))
    words = ["--kernel-id", "k", "--response-address", address, "--unknown", "x"]
    process = subprocess.Popen(
        [sys.executable, file, *words, "--public-key", fingerprint or identity().fingerprint],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, report, secret
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate)
        await reports.close()


async def joined(report: dict[str, object], secret: str) -> Transport:
    address = NodeAddress(str(report["host"]), port=int(str(report["port"])), secret=secret)
    return await connect(address)


def test_the_agent_is_reached(tmp_path: Path) -> None:
    async def body() -> None:
        async with launcher(tmp_path) as (process, reported, secret):
            report = await asyncio.wait_for(reported, 20)
            transport = await joined(report, secret)
            with pytest.raises(ConnectionError):
                await transport.open("/run/nothing.sock", asyncio.Protocol)
            with pytest.raises(ConnectionError):
                await transport.open(f"{report['directory']}/nothing.sock", asyncio.Protocol)
            channel = AgentChannel("node", lambda event: None)
            await transport.open(f"{report['directory']}/agent.sock", lambda: channel)
            welcome = await channel.request(Hello(owner="me", protocol=VERSION))
            assert welcome.directory == report["directory"]
            await channel.request(Leave(keep=[]))
            channel.close()
            transport.abort()
            assert await asyncio.to_thread(process.wait, 10) == 0  # nobody needs it any more
            assert not Path(str(report["directory"])).parent.exists()

    asyncio.run(body())


@pytest.mark.parametrize("how", ["signal", "stdin"])
def test_it_ends_with_its_container(tmp_path: Path, how: str) -> None:
    async def body() -> None:
        async with launcher(tmp_path) as (process, reported, _):
            report = await asyncio.wait_for(reported, 20)
            if how == "signal":
                process.send_signal(signal.SIGTERM)
            else:
                assert process.stdin is not None
                process.stdin.close()
                process.stdin = None
            assert await asyncio.to_thread(process.wait, 10) == 0
            assert not Path(str(report["directory"])).parent.exists()

    asyncio.run(body())


def test_a_wrong_secret_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with launcher(tmp_path, said="guessed") as (process, reported, _):
            _, printed = await asyncio.to_thread(process.communicate)
            assert "not a launcher that is awaited" in printed
            assert process.returncode == 1
            assert not reported.done()

    asyncio.run(body())


def test_a_server_with_another_key_gets_no_secret(tmp_path: Path) -> None:
    async def body() -> None:
        async with launcher(tmp_path, fingerprint="0" * 64) as (process, reported, _):
            _, printed = await asyncio.to_thread(process.communicate)
            assert "not the server that has launched us" in printed
            assert process.returncode == 1
            assert not reported.done()

    asyncio.run(body())


def identity_file(data: Path) -> Path:
    """The identity of the user with this data directory, made if there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(data))
        identity()
    return data / "remote-provisioners" / "identity.pem"


def test_a_stranger_is_not_let_through(tmp_path: Path) -> None:
    """Neither without TLS, nor with a certificate of his own; nor is another launcher believed."""
    other = identity_file(tmp_path / "other")

    def as_server(port: int) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(other)
        received = b""
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            contextlib.suppress(OSError),
            context.wrap_socket(plain, server_side=True) as wrapped,
        ):
            received = wrapped.recv(100)
        return received

    async def body() -> None:
        async with launcher(tmp_path) as (_, reported, secret):
            report = await asyncio.wait_for(reported, 20)
            assert await asyncio.to_thread(as_server, int(str(report["port"]))) == b""
            with pytest.raises(ConnectionError, match="another launcher"):
                await (await joined(report, secret + "x")).open("x", asyncio.Protocol)
            transport = await joined(report, secret)  # and goes on serving
            transport.abort()

    asyncio.run(body())


def test_the_key_is_kept_and_private(tmp_path: Path) -> None:
    first = identity().fingerprint
    identity_file(tmp_path / "other")  # only the last one is kept in memory
    assert identity().fingerprint == first
    file = tmp_path / "data" / "remote-provisioners" / "identity.pem"
    assert file.stat().st_mode & 0o777 == 0o600


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_transport, "_SECONDS", 0.5)

    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(UnreachableError, match="its launcher does not answer"):
                await connect(NodeAddress("127.0.0.1", port=port, secret="s"))

    asyncio.run(body())
