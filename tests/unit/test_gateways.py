"""A host that leads to others, such as a login node, while it does not let us in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remote_provisioners.errors import AuthenticationError, HostError, UnreachableError
from remote_provisioners.hosts import reconnect, transport
from remote_provisioners.hosts.gateways import Gateways
from remote_provisioners.placement.host_address import parse_address

LOGIN = parse_address("login1")


class Opened:
    async def wait_closed(self) -> str:
        await asyncio.get_running_loop().create_future()
        return "closed"

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Attempts:
    """The attempts to connect. Each raises the next error, and then one succeeds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: HostError) -> None:
        self.count = 0
        self._errors = list(errors)
        monkeypatch.setattr(transport, "connect", self._connect)

    async def _connect(self, *args: Any) -> Any:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)
        return Opened()


def test_no_program_that_is_to_run_there_repeats_a_refused_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sites lock accounts after a few refused logins. Somebody who starts a kernel may ask."""
    attempts = Attempts(monkeypatch, *[AuthenticationError("no key is accepted")] * 2)

    async def body() -> None:
        gateways = Gateways()
        for _ in range(5):
            with pytest.raises(AuthenticationError):
                await gateways.run(LOGIN, ["squeue"])
            await asyncio.sleep(0.01)
        assert attempts.count == 1
        with pytest.raises(AuthenticationError):
            await gateways.open(LOGIN, asked=True)
        while attempts.count < 2:
            await asyncio.sleep(0.01)
        await gateways.close()

    asyncio.run(asyncio.wait_for(body(), 5))


def test_who_needs_it_does_not_wait_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did not answer for a while. The kernels behind it try again each second."""
    attempts = Attempts(monkeypatch, UnreachableError("no answer"))
    monkeypatch.setattr(reconnect, "_UNRESPONSIVE_SECONDS", -1.0)
    monkeypatch.setattr(reconnect, "_FIRST_PAUSE_SECONDS", 60.0)

    async def body() -> None:
        gateways = Gateways()
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await gateways.open(LOGIN)
        while True:
            try:
                await gateways.open(LOGIN)
                break
            except UnreachableError:
                await asyncio.sleep(0.01)
        assert attempts.count == 2
        await gateways.close()

    asyncio.run(asyncio.wait_for(body(), 5))
