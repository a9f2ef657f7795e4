"""An attempt to connect that is given up at the very moment when it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import ConfigurationError, UnreachableError
from remote_provisioners.hosts import transport
from remote_provisioners.hosts.reconnect import Dialer
from remote_provisioners.hosts.transport.by_asyncssh import connection as ssh_connection
from remote_provisioners.hosts.transport.by_asyncssh import transport as ssh
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import parse_address

from ..conftest import InstallSpec, Start, be_client, eventually
from ..rig import Rig


@pytest.mark.parametrize("turns", range(9))
def test_given_up_just_as_it_succeeds(
    rig: Rig, home: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """No connection is left, however many turns of the loop after the login that is."""
    host = rig.hosts[0]
    before = host.tcp_connections()

    async def body() -> None:
        loop = asyncio.get_running_loop()
        dialer = Dialer(parse_address(host.target))
        over = asyncio.Event()

        def give_up(left: int) -> None:
            if left:
                loop.call_soon(give_up, left - 1)
                return
            connecting.cancel()
            dialer.close()
            over.set()

        monkeypatch.setattr(
            ssh_connection.Client, "auth_completed", lambda _: give_up(turns), raising=False
        )
        connecting = asyncio.ensure_future(dialer.connect(hurry=True))
        await asyncio.wait_for(over.wait(), 20)
        with contextlib.suppress(asyncio.CancelledError):
            (await connecting).abort()

    io_thread().call_blocking(body(), 30)
    eventually(lambda: host.tcp_connections() == before)


def test_lost_before_its_first_command(rig: Rig, home: Path) -> None:
    """As any other loss: whoever tries again goes on trying."""

    async def body() -> None:
        connected = await ssh.connect_ssh(parse_address(rig.hosts[0].target))
        connected.abort()
        await asyncio.wait_for(connected.wait_closed(), 10)
        with pytest.raises(UnreachableError):
            await connected.run(["true"], b"")

    io_thread().call_blocking(body(), 30)


@pytest.mark.parametrize(
    "error",
    [ValueError("?"), pytest.param(ConfigurationError("not now"), marks=pytest.mark.long)],
)
def test_an_attempt_that_ends_as_nobody_expects_is_not_the_last_one(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    error: Exception,
) -> None:
    """The kernels there come back with the next one."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target))
    session.run("kept = 1")
    connect, failed = transport.connect, []

    async def fail_once(*args: Any) -> Any:
        if not failed:
            failed.append(args)
            raise error
        return await connect(*args)

    monkeypatch.setattr(transport, "connect", fail_once)
    host.stop_sshd(sessions=True)
    host.start_sshd()
    eventually(lambda: failed and session.kernel.life.serving, 20)
    assert session.value("kept") == 1
