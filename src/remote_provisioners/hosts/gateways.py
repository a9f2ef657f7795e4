"""Hosts whose programs lead to other hosts, such as a cluster's login node. In the I/O thread.

They run programs and need no agent. Each is connected once, when somebody needs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..errors import UnreachableError
from ..placement.host_address import HostAddress, InnerAddress
from ..placement.way_in import COMMAND, WayIn
from .reconnect import Reconnector
from .registry import host_registry
from .transport import Completed, Transport
from .transport.inner import open_inner
from .transport.pipe.errors import why_not_opened
from .transport.pipe.start import NotOpened

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0


class Gateway:
    """One such host. The reconnector sees it as a host whose connection is the transport."""

    awaited = False

    def __init__(self, address: HostAddress) -> None:
        self.address = address
        self.name = str(address)
        #: Some ways in need an interpreter there.
        self.pythons = ["python3", "python"]
        self._transport: Transport | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._reconnector: Reconnector[Transport] = Reconnector(self)

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def open(self, asked: bool) -> Transport:
        """The connection, made if there is none. Raises HostError.

        A host that refuses us, or that does not answer, is not asked again by each caller. `asked`:
        a user asks for it, so a refused login is tried again before its time.
        """
        if self._transport is not None:
            return self._transport
        circuit = self._reconnector.circuit
        if circuit is not None and (circuit.unresponsive or circuit.refusals):
            if asked or not circuit.refusals:
                self._reconnector.hasten()
            raise circuit.error.at(self.name)
        return await self._reconnector.connect()

    async def close(self) -> None:
        await self._reconnector.close()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._transport is not None:
            try:
                await asyncio.wait_for(self._transport.close(), _CLOSE_SECONDS)
            except asyncio.TimeoutError:
                log.info("host %s: does not close the connection", self.name)
            self._transport.abort()

    # -- the reconnector's calls ------------------------------------------------------------

    async def answers(self) -> bool:
        return self.connected

    def on_attempt(self) -> None:
        pass

    async def complete(self, transport: Transport) -> Transport:
        return transport

    def on_connected(self, connection: Transport) -> None:
        self._transport = connection
        self._watcher = asyncio.ensure_future(self._watch(connection))

    async def _watch(self, transport: Transport) -> None:
        reason = await transport.wait_closed()
        log.info("host %s: connection lost: %s", self.name, reason)
        transport.abort()
        self._transport = None

    def on_agent_gone(self, reason: str) -> None:
        pass

    def on_change(self) -> None:
        pass


class Gateways:
    """The gateways of this process by address."""

    def __init__(self) -> None:
        self._gateways: dict[HostAddress, Gateway] = {}

    async def open(self, address: HostAddress, asked: bool = False) -> Transport:
        """A connection to that host. `asked`: see Gateway.open. Raises HostError."""
        if address not in self._gateways:
            self._gateways[address] = Gateway(address)
        return await self._gateways[address].open(asked)

    async def run(
        self, address: HostAddress, argv: Sequence[str], stdin: bytes = b"", seconds: float = 20.0
    ) -> Completed:
        """Run a program in the home directory there, until it ends. Raises HostError.

        `argv` is data; `stdin` may be read by a login shell's start-up files.
        """
        transport = await self.open(address)
        try:
            return await asyncio.wait_for(transport.run(argv, stdin), seconds)
        except asyncio.TimeoutError:
            text = f"{argv[0]} did not end within {seconds:.0f} s"
            raise UnreachableError(text, host=str(address)) from None

    async def close(self) -> None:
        await asyncio.gather(*(gateway.close() for gateway in self._gateways.values()))


async def gateways() -> Gateways:
    """This process's gateways. The registry closes them, after the hosts behind them."""
    return (await host_registry()).beside(Gateways)


async def connect_inner(address: InnerAddress, python: str) -> Transport:
    """Run the program that leads to a node; it starts Python there. Raises HostError."""
    through = await (await gateways()).open(address.through)
    try:
        return await open_inner(through, address, python)
    except NotOpened as failed:
        way = WayIn(COMMAND, address.words)
        raise why_not_opened(failed, way, python).at(str(address)) from None
