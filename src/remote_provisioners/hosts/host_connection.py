"""What a connected host consists of: the way to it, and the agent at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import RemoteProvisionerError
from ..protocol.agent_requests import GetLoad, GetTail
from ..protocol.answers import Welcome
from ..protocol.conventions import STREAM_SOCKET
from .agent_channel import AgentChannel
from .transport import Transport

_PATIENCE_SECONDS = 2.0
_TAIL_SECONDS = 1.0


@dataclass(frozen=True)
class HostConnection:
    """`agent` is the agent's answer to hello."""

    transport: Transport
    channel: AgentChannel
    agent: Welcome
    #: Seconds that its answer to hello has taken.
    round_trip: float = 0.0
    token: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def patience(self) -> float:
        """Seconds without a word after which the host counts as silent."""
        return max(_PATIENCE_SECONDS, 3 * self.round_trip)

    async def answers(self) -> bool:
        """Whether the agent says something."""
        with contextlib.suppress(RemoteProvisionerError, asyncio.TimeoutError):
            await asyncio.wait_for(self.channel.request(GetLoad()), self.patience)
            return True
        return False

    async def last_lines(self, kernel_id: str) -> str:
        """What that kernel has printed last, "" where the agent does not say."""
        with contextlib.suppress(RemoteProvisionerError, asyncio.TimeoutError):
            asked = self.channel.request(GetTail(kernel_id=kernel_id))
            return (await asyncio.wait_for(asked, _TAIL_SECONDS)).tail
        return ""

    async def open_link(
        self, protocol_factory: Callable[[int], asyncio.Protocol]
    ) -> asyncio.Protocol:
        """Connect to the agent's streams. The factory is told the agent's pid."""

        def made() -> asyncio.Protocol:
            protocol = protocol_factory(self.agent.pid)
            received = protocol.data_received

            def data_received(data: bytes) -> None:
                self.channel.heard = time.monotonic()
                received(data)

            protocol.data_received = data_received  # type: ignore[method-assign]
            return protocol

        return await self.transport.open(f"{self.agent.directory}/{STREAM_SOCKET}", made)

    async def expose(self, local_path: str) -> str:
        """Make a socket of this machine reachable there. Raises HostError."""
        return await self.transport.expose(
            local_path, f"{self.agent.directory}/response-{self.token}"
        )
