"""An attempt to connect that is given up at the very moment when it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts.reconnect import Dialer
from remote_provisioners.hosts.transport import ssh, ssh_login
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import parse_address

from ..conftest import eventually
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
            ssh_login._Client, "auth_completed", lambda _: give_up(turns), raising=False
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
        transport = await ssh.connect_ssh(parse_address(rig.hosts[0].target))
        transport.abort()
        await asyncio.wait_for(transport.wait_closed(), 10)
        with pytest.raises(UnreachableError):
            await transport.run(["true"], b"")

    io_thread().call_blocking(body(), 30)
