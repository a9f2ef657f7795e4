"""A host: one connection, one agent, the kernels of this server there. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import transport
from .address import HostAddress
from .agent.wire import Message
from .bootstrap import find_or_start_agent
from .channel import AgentChannel
from .errors import (
    ForwardingError,
    HostError,
    RemoteProvisionerError,
    UnreachableError,
    forwarding_advice,
)
from .transport import Endpoint, Transport

log = logging.getLogger(__name__)

_RETRY_FIRST_SECONDS = 0.25
_RETRY_MOST_SECONDS = 10.0
_FORGET_SECONDS = 5.0


@dataclass(frozen=True)
class HostSpec:
    """A host as it is configured for a kernel. `name` is how it was written.

    `python` and `hook` are the kernel's business: kernels that differ in them share the host.
    """

    name: str
    address: HostAddress
    python: str
    hook: str


class Resident(Protocol):
    """A kernel, as its host knows it."""

    kernel_id: str
    pid: int | None

    def on_event(self, event: Message) -> None:
        """The agent reports something of it."""

    def on_disconnected(self) -> None:
        """The connection is lost."""

    def on_reconnected(self, described: Message | None) -> None:
        """The connection is back; `described` is what the agent knows of it, if anything."""


@dataclass(frozen=True)
class Link:
    """What a connected host consists of. `agent` is the agent's answer to hello."""

    transport: Transport
    channel: AgentChannel
    agent: Message
    token: str = field(default_factory=lambda: secrets.token_hex(4))


class Host:
    """Connects when it is needed, once for however many wait for it.

    While it has kernels, a lost connection is made again, for as long as it takes.
    """

    def __init__(self, address: HostAddress) -> None:
        self.address = address
        self.name = str(address)
        #: The interpreter to start the agent with, when there is none.
        self.python = ""
        self.kernels: dict[str, Resident] = {}
        #: To be ended when the host is back.
        self._unwanted: set[str] = set()
        self._told: set[asyncio.Task[Message]] = set()
        #: Names us to the agent. Not the process: the same agent may be reached by two addresses.
        self._owner = secrets.token_hex(8)
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False

    async def link(self) -> Link:
        """The connection, made if there is none. Raises HostError."""
        if self._link is not None:
            return self._link
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connected)
        # Shielded: a start that is given up does not take the connection from the others.
        return await asyncio.shield(self._connecting)

    async def request(self, op: str, **fields: Any) -> Message:
        """Ask the agent. Raises HostError, KernelStartError."""
        return await (await self.link()).channel.request(op, **fields)

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        """Connect to an endpoint there, over the connection as it is now."""
        if self._link is None:
            raise UnreachableError("not connected", host=self.name)
        return await self._link.transport.open(endpoint, protocol_factory)

    async def expose(self, local_path: str) -> str:
        """Make a socket of this machine reachable there. Raises HostError."""
        link = await self.link()
        there = f"{link.agent['directory']}/response-{link.token}"
        return await link.transport.expose(local_path, there)

    def forget(self, kernel: Resident) -> None:
        """`kernel` is no longer ours to watch."""
        if self.kernels.get(kernel.kernel_id) is kernel:
            del self.kernels[kernel.kernel_id]

    async def end(self, kernel: Resident) -> None:
        """End `kernel` if it runs and remove its files, now or when the host is back."""
        self.forget(kernel)
        try:
            if self._link is not None:
                asked = self._link.channel.request("forget", kernel_id=kernel.kernel_id)
                await asyncio.wait_for(asked, _FORGET_SECONDS)
                return
        except (RemoteProvisionerError, asyncio.TimeoutError):
            pass
        if kernel.pid is not None:
            self._unwanted.add(kernel.kernel_id)

    async def close(self) -> None:
        """Tell the agent that this server goes, close the connection."""
        self._closed = True
        for task in (self._watcher, self._connecting):
            if task is not None:
                task.cancel()
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(RemoteProvisionerError, asyncio.TimeoutError):
                await asyncio.wait_for(link.channel.request("leave"), 2)
            link.channel.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(link.transport.close(), 2)
            link.transport.abort()

    # -- connecting -------------------------------------------------------------------------

    async def _connect(self) -> Link:
        try:
            opened = await transport.connect(self.address)
        except HostError as error:
            raise error.at(self.name) from None
        try:
            channel, agent = await self._reach_agent(opened)
        except BaseException:
            opened.abort()
            raise
        log.info("host %s: connected (agent %s)", self.name, agent["pid"])
        return Link(opened, channel, agent)

    async def _reach_agent(self, opened: Transport) -> tuple[AgentChannel, Message]:
        python = self.python or "python3"
        for last_try in (False, True):
            path = await find_or_start_agent(opened, python, self.name)
            channel = AgentChannel(self.name, self._on_event)
            try:
                await opened.open(path, lambda channel=channel: channel)  # type: ignore[misc]
                return channel, await channel.request("hello", owner=self._owner)
            except (ConnectionError, UnreachableError) as error:
                # The agent that was found may have ended itself, idle, at this very moment.
                if last_try:
                    raise self._not_let_through(error) from None
            except HostError as error:
                raise error.at(self.name) from None
        raise AssertionError("unreachable")

    def _not_let_through(self, error: Exception) -> HostError:
        """Why an agent that answers on the host itself cannot be reached from here."""
        if self.address.is_local:
            return UnreachableError(f"the agent does not answer: {error}", host=self.name)
        # OpenSSH gives no reason of its own for a unix socket that it may not forward to.
        return ForwardingError(forwarding_advice(str(error)), host=self.name)

    def _connected(self, task: asyncio.Task[Link]) -> None:
        self._connecting = None
        if task.cancelled() or task.exception() is not None:
            return
        link = self._link = task.result()
        self._watcher = asyncio.ensure_future(self._watch(link))
        known = {described["kernel_id"]: described for described in link.agent["kernels"]}
        for kernel in list(self.kernels.values()):
            kernel.on_reconnected(known.get(kernel.kernel_id))
        self._unwanted.clear()
        for kernel_id in known.keys() - self.kernels.keys():
            self._tell(link, "forget", kernel_id)

    async def _watch(self, link: Link) -> None:
        """Notice the loss of the connection; make it again while there are kernels."""
        over = [
            asyncio.ensure_future(link.transport.wait_closed()),
            asyncio.ensure_future(asyncio.wait([link.channel.closed])),
        ]
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in over:
                task.cancel()
        self._link = None
        link.channel.close()
        link.transport.abort()
        log.warning("host %s: connection lost", self.name)
        for kernel in list(self.kernels.values()):
            kernel.on_disconnected()
        pause = _RETRY_FIRST_SECONDS
        while (self.kernels or self._unwanted) and not self._closed and self._link is None:
            try:
                await self.link()
            except RemoteProvisionerError as error:
                log.info("host %s: not back yet: %s", self.name, error.message)
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311
                pause = min(2 * pause, _RETRY_MOST_SECONDS)

    def _tell(self, link: Link, op: str, kernel_id: str) -> None:
        task = asyncio.ensure_future(link.channel.request(op, kernel_id=kernel_id))
        self._told.add(task)
        task.add_done_callback(self._told_over)

    def _told_over(self, task: asyncio.Task[Message]) -> None:
        self._told.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("host %s: not told: %s", self.name, task.exception())

    def _on_event(self, event: Message) -> None:
        kernel = self.kernels.get(event.get("kernel_id", ""))
        if kernel is not None:
            kernel.on_event(event)
