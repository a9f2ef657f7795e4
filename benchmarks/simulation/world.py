"""The simulated hosts, and how this process reaches them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from remote_provisioners.agent.bootstrap.find_or_start import MARKER
from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts.transport import Completed, Endpoint, Transport
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.inventory import Inventory, read_inventory

from .agent import SimulatedAgent
from .pipe import Stream, join


class World:
    """Hosts by name. Those in `unreachable` fail to connect, after so many seconds."""

    def __init__(self, count: int, *, cores: int = 8, listening_seconds: float = 0.02) -> None:
        self.names = [f"host{number:04}" for number in range(count)]
        self.agents = {name: SimulatedAgent(name, cores, listening_seconds) for name in self.names}
        self.unreachable: dict[str, float] = {}
        #: Attempts to connect, by host.
        self.attempts = dict.fromkeys(self.names, 0)

    def inventory(self, **properties: Any) -> Inventory:
        """All of them, with the same properties."""
        listed: list[str | Mapping[str, Any]] = [
            {"host": name, **properties} for name in self.names
        ]
        return read_inventory(listed)

    async def connect(self, address: HostAddress, python: str = "") -> Transport:
        """In place of `remote_provisioners.hosts.transport.connect`. Raises UnreachableError."""
        self.attempts[address.host] += 1
        if address.host in self.unreachable:
            await asyncio.sleep(self.unreachable[address.host])
            raise UnreachableError("simulated: it does not answer")
        return SimulatedTransport(self.agents[address.host])

    @contextmanager
    def instead_of_ssh(self) -> Iterator[None]:
        """Within, every host of this process is one of these."""
        with patch("remote_provisioners.hosts.transport.connect", self.connect):
            yield


class SimulatedTransport(Transport):
    """A connection to a simulated host."""

    def __init__(self, agent: SimulatedAgent) -> None:
        self._agent = agent
        self._closed = asyncio.Event()
        self._streams: list[Stream] = []

    async def run(self, argv: Sequence[str], stdin: bytes, after: bytes = b"") -> Completed:
        """The only command is the bootstrap: the agent runs already."""
        unsaid = dict.fromkeys(("host", "name", "boot"), "")
        answer = MARKER + json.dumps({"socket": self._agent.path, **unsaid})
        return Completed(0, answer.encode() + b"\n", b"")

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        """To the agent; or to a kernel, which takes what it is sent and says nothing."""
        protocol = protocol_factory()
        far = self._agent.peer() if endpoint == self._agent.path else asyncio.Protocol()
        self._streams.append(join(protocol, far))
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        return host_path

    async def wait_closed(self) -> str:
        await self._closed.wait()
        return "closed"

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._closed.set()
        for stream in self._streams:
            stream.close()
        self._streams.clear()
