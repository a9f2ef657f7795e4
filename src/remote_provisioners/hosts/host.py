"""A host: one connection, one agent, this server's kernels there. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import (
    AnotherMachineError,
    HostError,
    RemoteProvisionerError,
    UnreachableError,
)
from ..placement.host_address import HostAddress
from ..placement.policies import Load
from ..protocol.agent_events import LoadChanged, Notice
from ..protocol.agent_requests import Forget, GetLoad, Leave, Request
from ..protocol.answers import LoadReport
from ..protocol.structure import Structure
from .agent_channel import AgentChannel, ChannelLostError, SilentError
from .agent_finder import AgentFinder
from .deploy_agent import agent_version
from .host_connection import HostConnection
from .machine import Machine, why_not
from .pending_kills import PendingKills
from .reconnect import OpenCircuit, Reconnector
from .resident import Resident
from .transport import Transport

log = logging.getLogger(__name__)

A = TypeVar("A", bound=Structure)

_FORGET_SECONDS = 5.0


class Host:
    """Connects on demand, and reconnects if the connection is lost while it has kernels."""

    def __init__(self, address: HostAddress, directory: str = "") -> None:
        """`directory`: the directory of an agent of another version that has kernels of ours."""
        self.address = address
        #: Where our agent is on the host, once it is known.
        self.directory = directory
        self.name = str(address)
        self.kernels: dict[str, Resident] = {}
        #: Called when the connection, the circuit or the load has changed.
        self.on_change: Callable[[], None] = lambda: None
        #: What the agent has reported last, None before the first time.
        self.load: Load | None = None
        #: Seconds that the agent took to answer a small request, the last time.
        self.round_trip: float | None = None
        #: Kernels there whose servers were away when we connected.
        self.left: frozenset[str] = frozenset()
        self._pending_kills = PendingKills(self)
        #: To go on without us.
        self._left_running: set[str] = set()
        self._told: set[asyncio.Task[Any]] = set()
        self._endings: set[asyncio.Task[None]] = set()
        #: Names us to the agent. Not the process: the same agent may be reached by two addresses.
        self._owner = secrets.token_hex(8)
        self._agents = AgentFinder(address, self._owner, directory, self._check_machine)
        #: Since when, by the monotonic clock, it is away with kernels of ours.
        self.away_since: float | None = None
        self._link: HostConnection | None = None
        self._back = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False
        self._reconnector: Reconnector[HostConnection] = Reconnector(self)

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def closed(self) -> bool:
        """Whether the registry has closed this host."""
        return self._closed

    @property
    def channel(self) -> AgentChannel | None:
        """To the agent; None while the host is away."""
        return self._link.channel if self._link is not None else None

    @property
    def connecting_since(self) -> float | None:
        """When the current connection attempt began, by the monotonic clock; None without one."""
        return self._reconnector.connecting_since

    @property
    def circuit(self) -> OpenCircuit | None:
        """Why no start uses this host at the moment; None if it can be used."""
        return self._reconnector.circuit

    def open_circuit(self, error: HostError, unresponsive: bool = False) -> None:
        """Make starts go elsewhere until an attempt succeeds."""
        self._reconnector.open_circuit(error, unresponsive)

    @property
    def awaited(self) -> bool:
        """Whether it has kernels of ours, or pending kills."""
        return bool(self.kernels or self._pending_kills)

    async def link(self) -> HostConnection:
        """The connection, made if there is none. Raises HostError.

        Fails at once while the host is known not to answer: nobody waits for that again.
        """
        if self._link is not None and self._link.channel.closed.done():
            self._lost(self._link)  # the watcher has not run yet
        if self._link is not None:
            return self._link
        if self.circuit is not None and self.circuit.unresponsive:
            raise self.circuit.error.at(self.name)
        return await self._reconnector.connect()

    async def until_back(self, grace: float) -> None:
        """Return when it is connected again or has been away for longer than `grace`."""
        if self.away_since is not None:
            left = self.away_since + grace - time.monotonic()
            self._reconnector.hasten()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._back.wait(), max(left, 0))

    async def request(self, request: Request[A]) -> A:
        """Ask the agent, and the next one if it is killed meanwhile. For what may be asked twice.

        Raises HostError, KernelStartError.
        """
        try:
            return await (await self.link()).channel.request(request)
        except ChannelLostError:
            return await (await self.link()).channel.request(request)

    async def refresh_load(self) -> None:
        """Ask the agent for its load. Raises HostError."""
        link = await self.link()
        began = time.monotonic()
        report = await link.channel.request(GetLoad())
        self.round_trip = time.monotonic() - began
        self._report(report)

    def _report(self, report: LoadReport) -> None:
        self.load = Load(
            cores=report.cores,
            load=report.load,
            memory=report.memory,
            memory_available=report.memory_available,
            others=report.kernels - report.yours,
            kernels=report.kernels,
            gpus_taken=tuple(report.gpus_taken),
        )
        self.on_change()

    @property
    def owner(self) -> str:
        """Our name for the agent."""
        return self._owner

    def tell(self, request: Request[Any]) -> None:
        """Send a request if the agent can be reached. Nobody waits for the answer."""
        if self._link is not None:
            self._in_background(self._link.channel.request(request))

    def _in_background(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._told.add(task)
        task.add_done_callback(self._told_over)

    def _told_over(self, task: asyncio.Task[Any]) -> None:
        self._told.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("host %s: not told: %s", self.name, task.exception())

    async def open_link(
        self, protocol_factory: Callable[[int], asyncio.Protocol]
    ) -> asyncio.Protocol:
        """Connect to the agent's streams now. The factory gets the agent's pid."""
        if self._link is None:
            raise UnreachableError("not connected", host=self.name)
        return await self._link.open_link(protocol_factory)

    async def unless_silent(self, asked: Coroutine[Any, Any, A], accepted: asyncio.Event) -> A:
        """What `asked` of the agent gives. Raises UnreachableError, and opens the circuit, when
        nothing is heard of the host before the answer, or before it is `accepted`.
        """
        if self._link is None:
            return await asked
        channel, patience = self._link.channel, self._link.patience
        try:
            return await channel.unless_silent(asked, accepted, patience)
        except SilentError as error:
            self.open_circuit(error, unresponsive=True)
            raise

    async def answers(self) -> bool:
        """Whether the connected agent answers. Called by the reconnector."""
        return self._link is not None and await self._link.answers()

    async def last_lines(self, kernel_id: str) -> str:
        """The kernel's last lines of output, "" if the host does not answer."""
        return "" if self._link is None else await self._link.last_lines(kernel_id)

    async def expose(self, local_path: str) -> str:
        """Make a socket of this machine reachable there. Raises HostError."""
        return await (await self.link()).expose(local_path)

    def remember(self, kernel: Resident) -> None:
        """Watch `kernel`."""
        self.kernels[kernel.kernel_id] = kernel
        self._left_running.discard(kernel.kernel_id)

    def forget(self, kernel: Resident) -> None:
        """Stop watching `kernel`."""
        if self.kernels.get(kernel.kernel_id) is kernel:
            del self.kernels[kernel.kernel_id]

    def leave_running(self, kernel: Resident) -> None:
        """Let `kernel` outlive this process."""
        self.forget(kernel)
        self._left_running.add(kernel.kernel_id)

    async def end(self, kernel: Resident, ended: bool = False) -> None:
        """End `kernel` if it runs and remove its files, now or when the host is back.

        `ended`: it has, so nobody waits for its files to be removed.
        """
        self.forget(kernel)
        ending = asyncio.ensure_future(self._end(kernel))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        if not ended:
            await asyncio.shield(ending)

    async def _end(self, kernel: Resident) -> None:
        try:
            if self._link is not None:
                asked = self._link.channel.request(Forget(kernel_id=kernel.kernel_id))
                if self.circuit is not None and self.circuit.unresponsive:
                    # It is silent, and hears this when it can be reached again.
                    if kernel.may_run:
                        self._pending_kills.await_kill(kernel.kernel_id, asked)
                    else:
                        self._in_background(asked)
                    return
                await asyncio.wait_for(asked, _FORGET_SECONDS)
                self._pending_kills.ended(kernel.kernel_id)
                return
        except (RemoteProvisionerError, asyncio.TimeoutError):
            pass
        if kernel.may_run or self.has_pending_kill(kernel.kernel_id):
            self.kill(kernel.kernel_id)

    def has_pending_kill(self, kernel_id: str) -> bool:
        """Whether that kernel may still run and has to be ended."""
        return kernel_id in self._pending_kills

    async def close(self) -> None:
        """Tell the agent that this server leaves, and close the connection."""
        self._closed = True
        # An agent that is being started would wait for us in vain: connect to it, and leave.
        await self._reconnector.close()
        if self._watcher is not None:
            self._watcher.cancel()
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(RemoteProvisionerError, asyncio.TimeoutError):
                kept = sorted(self._left_running)
                await asyncio.wait_for(link.channel.request(Leave(keep=kept)), 2)
            link.channel.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(link.transport.close(), 2)
            link.transport.abort()

    # -- connecting -------------------------------------------------------------------------

    def on_attempt(self) -> None:
        """A connection attempt begins. Pack the agent in the meantime."""
        asyncio.get_running_loop().run_in_executor(None, agent_version)

    async def complete(self, transport: Transport) -> HostConnection:
        """Start the agent if it does not run, and greet it."""
        channel, agent, seconds = await self._agents.reach(transport, self._on_event)
        log.info("host %s: connected (agent %s)", self.address.label, agent.pid)
        return HostConnection(transport, channel, agent, seconds)

    def may_have(self, python: str) -> None:
        """A kernelspec says that the host has this interpreter."""
        if python and python not in self.pythons:
            self.pythons.insert(1, python)

    def may_be_in(self, directory: str) -> None:
        """A record says that our agent has this directory."""
        self._agents.known = self._agents.known or directory

    def expect(self, kernel: str) -> None:
        """Note the kernel for which an agent may have to be started (options/expected.py)."""
        self._agents.expected = kernel

    @property
    def pythons(self) -> list[str]:
        """Interpreters that the agent may be started by, the one that has worked first."""
        return self._agents.pythons

    @property
    def machine(self) -> Machine:
        """The machine that its name has led to the last time."""
        return self._agents.machine

    def _check_machine(self, found: Machine) -> None:
        """Raises AnotherMachineError if our kernels are on other machines."""
        why = why_not({kernel.machine for kernel in self.kernels.values()}, found)
        if why:
            raise AnotherMachineError(why, host=self.name)

    def on_agent_gone(self, reason: str = "") -> None:
        """The agent that had our kernels is gone. `reason`: why a node of an engine has ended."""
        self.away_since = None
        self._back.set()
        for kernel in list(self.kernels.values()):
            if reason:
                kernel.give_up(reason)
            else:
                kernel.on_reconnected(None)
        # What is started here from now on is our own agent's: a restart of one of these.
        self._agents.former = self.directory = ""

    def on_connected(self, link: HostConnection) -> None:
        """The connection is made. Tell the kernels, and end pending kills."""
        self._link, self.round_trip = link, link.round_trip or self.round_trip
        self.directory = link.agent.directory
        self.left = frozenset(link.agent.left)
        self.away_since = None
        self._back.set()
        self._watcher = asyncio.ensure_future(self._watch(link))
        self._report(link.agent.load)
        known = {described.kernel_id: described for described in link.agent.kernels}
        for kernel in list(self.kernels.values()):
            kernel.on_reconnected(known.get(kernel.kernel_id), link.agent.pid)
        # A kernel that we were to adopt is not among the known: it is another server's still.
        to_end = (known.keys() - self._left_running) | set(self._pending_kills)
        for kernel_id in to_end - self.kernels.keys():
            self.kill(kernel_id)
        self.on_change()

    def started(self, kernel: Resident) -> None:
        """The agent has started it. It has ended the earlier process of this kernel, if any."""
        self._pending_kills.ended(kernel.kernel_id)

    def kill(self, kernel_id: str) -> None:
        """Have a kernel ended, now or when the host is back; it is pending until that is done."""
        self._pending_kills.kill(kernel_id)

    async def _watch(self, link: HostConnection) -> None:
        """Notice the loss of the connection, and reconnect if there are kernels."""
        over = [
            asyncio.ensure_future(link.transport.wait_closed()),
            asyncio.ensure_future(asyncio.wait([link.channel.closed])),
        ]
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in over:
                task.cancel()
        self._lost(link)
        if self.awaited and not self._closed and self._link is None:
            with contextlib.suppress(RemoteProvisionerError):
                await self._reconnector.connect()  # at once; a failure begins the retries

    def _lost(self, link: HostConnection) -> None:
        """The connection is lost. Tell the kernels."""
        if self._link is not link:
            return
        self._link = None
        self.away_since = time.monotonic()
        self._back.clear()
        link.channel.close()
        link.transport.abort()
        log.warning("host %s: connection lost", self.address.label)
        for kernel in list(self.kernels.values()):
            kernel.on_disconnected()
        self.on_change()
        self._reconnector.hurry = self.awaited

    def _on_event(self, event: Any) -> None:
        if isinstance(event, LoadChanged):
            self._report(event)
            return
        if isinstance(event, Notice):
            log.warning("host %s: %s", self.address.label, event.text)
            return
        kernel = self.kernels.get(event.kernel_id)
        if kernel is not None:
            kernel.on_event(event)
