"""When a server leaves the agent of another version of this package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts import found_kernels
from remote_provisioners.hosts.host import Host
from remote_provisioners.hosts.registry import HostRegistry
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.inventory import HostSpec

SPEC = HostSpec("host1", HostAddress("host1"))
AGENT = "/tmp/remote-provisioners-0/000000000000-11111111"


class Closed(list[Host]):
    """The hosts that were closed."""


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Closed:
    closed, close = Closed(), Host.close

    async def closing(host: Host) -> None:
        closed.append(host)
        await close(host)

    monkeypatch.setattr(Host, "close", closing)
    return closed


def with_registry(scenario: Callable[[HostRegistry], Coroutine[Any, Any, None]]) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[HostRegistry]:
        registry = HostRegistry()
        try:
            yield registry
        finally:
            await registry.close()

    async def main() -> None:
        async with opened() as registry:
            await asyncio.wait_for(scenario(registry), 10)

    asyncio.run(main())


def test_a_server_stays_until_the_agents_kernel_has_ended(closed: Closed) -> None:
    """The host is away: the kill is pending, and the kernel's record stays."""

    async def scenario(registry: HostRegistry) -> None:
        kernel = await registry.new_kernel("k1", SPEC, 1.0, AGENT)
        kernel.pid = 1
        await registry.end(kernel)
        assert registry.has_pending_kill("k1")
        host = registry.host_with(SPEC, AGENT)
        assert closed == []
        host.started(kernel)  # the agent is back, and has ended this kernel's earlier process
        await asyncio.sleep(0)
        assert closed == [host]
        assert registry.host_with(SPEC, AGENT) is not host

    with_registry(scenario)


def test_a_server_stays_while_another_kernel_starts_there(closed: Closed) -> None:
    async def scenario(registry: HostRegistry) -> None:
        one = await registry.new_kernel("k1", SPEC, 1.0, AGENT)
        other = await registry.new_kernel("k2", SPEC, 1.0, AGENT)
        registry.close_kernel(one)
        await asyncio.sleep(0)
        assert closed == []
        registry.close_kernel(other)
        await asyncio.sleep(0)
        assert closed == [other.host]

    with_registry(scenario)


def test_a_server_leaves_after_a_look_at_kernels(
    closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def request(host: Host, request: Any) -> Any:
        if host.directory:
            assert closed == []
            raise UnreachableError("it is gone")
        return SimpleNamespace(kernels=[], agent=SimpleNamespace(others=[AGENT]))

    async def scenario(registry: HostRegistry) -> None:
        async def the_registry() -> HostRegistry:
            return registry

        monkeypatch.setattr(found_kernels, "host_registry", the_registry)
        monkeypatch.setattr(Host, "request", request)
        with pytest.raises(UnreachableError, match="it is gone"):
            await found_kernels.kernels_on(SPEC)
        await asyncio.sleep(0)
        assert [host.directory for host in closed] == [AGENT]

    with_registry(scenario)
