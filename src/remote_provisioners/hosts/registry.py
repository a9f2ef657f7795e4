"""All that this process has on hosts: the hosts it is connected to, and where kernels land."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..errors import (
    AgentError,
    ConfigurationError,
    HostError,
    KernelStartError,
    NoHostError,
    NoRoomError,
    RemoteProvisionerError,
)
from ..events import HostChanged, KernelForgotten, KernelMoved, Phase, events
from ..io_thread import io_thread
from ..kernels.client_sockets import ClientSockets
from ..kernels.launcher_reports import LauncherReports
from ..kernels.remote_kernel import RemoteKernel
from ..kernels.socket_directory import SocketDirectory
from ..kernels.starts import starts
from ..options.launch_request import LaunchRequest
from ..placement.host_address import HostAddress
from ..placement.host_table import HostTable
from ..placement.inventory import HostSpec, Inventory
from ..placement.policies import HostRow, LoadBalancer, candidates
from .deploy_agent import agent_version
from .host import Host

log = logging.getLogger(__name__)

#: How long a start waits for the hosts' loads, where the policy wants them fresh.
_LOAD_SECONDS = 0.5
#: How old a report may be that is not asked for again: our own starts are counted without it.
_FRESH_SECONDS = 0.5
_CONNECT_SECONDS = 5.5
#: A host keeps our clients' streams longer than we wait for it.
_KEEP_AFTER_GRACE_SECONDS = 60.0
_CONNECTING_AT_ONCE = 16
#: Inventories whose tables are kept; more are only seen where configurations change all the time.
_MOST_TABLES = 64


class Fleet:
    """The hosts of this process. Lives in the I/O thread; there is one, see `fleet()`."""

    def __init__(self) -> None:
        self.hosts: dict[HostAddress, Host] = {}
        #: By the directories of their agents, of other versions of ours, that have kernels still.
        self._former: dict[tuple[HostAddress, str], Host] = {}
        self._parting: set[asyncio.Task[None]] = set()
        self._kernels: set[RemoteKernel] = set()
        #: Kernels by the name of their host, starts in flight counted.
        self._counts: Counter[str] = Counter()
        #: By the identity of their inventory, which they hold.
        self._tables: dict[int, HostTable] = {}
        self._with_open_circuit: set[HostAddress] = set()
        self._sockets = SocketDirectory()
        self._response = LauncherReports(self._sockets.path)

    def host(self, spec: HostSpec) -> Host:
        """The host at this address; not connected before somebody needs it."""
        host = self.hosts.get(spec.address)
        if host is None:
            host = self.hosts[spec.address] = Host(spec.address)
            host.on_change = lambda: self._host_changed(host)
        host.python = spec.python or host.python
        return host

    def host_with(self, spec: HostSpec, directory: str) -> Host:
        """The host, by its agent in this directory: an earlier version's keeps its kernels."""
        if not directory or directory.rpartition("/")[2] == agent_version():
            return self.host(spec)
        key = spec.address, directory
        if key not in self._former:
            self._former[key] = Host(spec.address, directory)
        return self._former[key]

    @property
    def kernels(self) -> list[RemoteKernel]:
        """Those of this process, in no order."""
        return list(self._kernels)

    # -- starts -----------------------------------------------------------------------------

    async def start(
        self,
        request: LaunchRequest,
        inventory: Inventory,
        complete: Callable[[HostSpec], HostSpec],
        policy: LoadBalancer,
        grace: float,
    ) -> RemoteKernel:
        """Start a kernel on the host that `policy` chooses, or on the next if that one cannot.

        Raises NoRoomError; the HostError of the only host, or NoHostError with those of all;
        KernelStartError, for which no other host is tried.
        """

        async def begin(spec: HostSpec) -> RemoteKernel:
            return await self.start_on(complete(spec), request, grace)

        return await self._place(request, inventory, policy, {}, begin)

    async def _place(
        self,
        request: LaunchRequest,
        inventory: Inventory,
        policy: LoadBalancer,
        tried: dict[str, HostError],
        begin: Callable[[HostSpec], Awaitable[RemoteKernel]],
    ) -> RemoteKernel:
        """`begin` on one host after the other, those of `tried` left out, until one starts it."""
        table = self._table(inventory)
        turn = table.turn()
        while True:
            row = await self._choose(table, policy, turn, request, tried)
            try:
                return await begin(table.specs[row.host])
            except HostError as error:
                log.warning("kernel %s: not on %s: %s", request.kernel_id, row.host, error.message)
                tried[row.host] = error
                said = f"not on {row.host}: {error.message}"
                starts().note(request.kernel_id, Phase.PLACING, host="", text=said)
                host = self.host(table.specs[row.host])
                if isinstance(error, AgentError) and host.connected:  # of no use: its disk is full
                    host.open_circuit(error)

    async def start_on(
        self, spec: HostSpec, request: LaunchRequest, grace: float, agent: str = ""
    ) -> RemoteKernel:
        """Start a kernel on this host and no other. Raises what RemoteKernel.launch raises.

        `agent`: the directory of the agent to start it by, where that is not ours to start.
        """
        kernel = await self._new_kernel(request.kernel_id, spec, grace, agent)
        try:
            await kernel.launch(request, self._response)
        except BaseException:
            self._close(kernel)
            raise
        return kernel

    async def _choose(
        self,
        table: HostTable,
        policy: LoadBalancer,
        turn: int,
        request: LaunchRequest,
        tried: Mapping[str, HostError],
    ) -> HostRow:
        """The host to try next. Raises NoRoomError, HostError when there is none."""
        rows = self._candidates(table, request, tried)
        if policy.needs_load:
            await self._refresh(table)
            rows = self._candidates(table, request, tried)  # much may have happened meanwhile
        chosen = policy.choose(rows, turn)
        for row in rows:
            if row.host == chosen:
                return row
        raise ConfigurationError(
            f"load balancing by {type(policy).__name__} chose {chosen!r}, which was not to choose"
        )

    def _candidates(
        self, table: HostTable, request: LaunchRequest, tried: Mapping[str, HostError]
    ) -> list[HostRow]:
        """The hosts that may be tried. Raises NoRoomError, HostError when there is none."""
        aside = self._open_circuits(table)
        try:
            return candidates(table.rows({*tried, *aside}), request.requirements)
        except NoRoomError:
            pass
        # Those that are set aside, where an attempt costs nobody's time; else the reason.
        again = {n for n in aside if n not in tried and not self._unresponsive(table, n)}
        try:
            return candidates(table.rows(table.specs.keys() - again), request.requirements)
        except NoRoomError:
            raise _nobody(table, request, {**aside, **tried}) from None

    def _open_circuits(self, table: HostTable) -> dict[str, HostError]:
        """The hosts of a table that are known not to work, and why."""
        if not self._with_open_circuit:
            return {}
        aside = {}
        for name, spec in table.specs.items():
            if spec.address in self._with_open_circuit and (
                circuit := self.hosts[spec.address].circuit
            ):
                aside[name] = circuit.error
        return aside

    def _unresponsive(self, table: HostTable, name: str) -> bool:
        circuit = self.hosts[table.specs[name].address].circuit
        return circuit is not None and circuit.unresponsive

    async def _refresh(self, table: HostTable) -> None:
        """Have the hosts of a table report their loads, once for all starts that wait for it."""
        loop = asyncio.get_running_loop()
        if loop.time() - table.refreshed < _FRESH_SECONDS:
            return
        if table.refreshing is None:
            table.refreshing = asyncio.ensure_future(self._ask_loads(table))
        await asyncio.shield(table.refreshing)

    async def _ask_loads(self, table: HostTable) -> None:
        """Ask the hosts how they are; who does not answer in time keeps its last word.

        Those that are not connected are connected now, which takes longer, but once.
        """
        aside = self._open_circuits(table)
        hosts = [self.host(spec) for name, spec in table.specs.items() if name not in aside]
        connecting = asyncio.Semaphore(_CONNECTING_AT_ONCE)

        async def ask(host: Host) -> None:
            with contextlib.suppress(RemoteProvisionerError):
                if not host.connected:
                    async with connecting:
                        await host.link()
                await host.refresh_load()

        seconds = _LOAD_SECONDS if all(host.connected for host in hosts) else _CONNECT_SECONDS
        asked = [asyncio.ensure_future(ask(host)) for host in hosts]
        try:
            if asked:
                await asyncio.wait(asked, timeout=seconds)
        finally:
            for task in asked:
                task.cancel()
            table.refreshed = asyncio.get_running_loop().time()
            table.refreshing = None

    def _table(self, inventory: Inventory) -> HostTable:
        table = self._tables.pop(id(inventory), None)
        if table is None:
            table = HostTable(inventory)
            for spec in inventory:
                if spec.address in self.hosts:
                    self._update_row(table, spec)
        self._tables[id(inventory)] = table
        if len(self._tables) > _MOST_TABLES:
            del self._tables[next(iter(self._tables))]
        return table

    # -- kernels ----------------------------------------------------------------------------

    async def restart(
        self,
        kernel: RemoteKernel,
        request: LaunchRequest,
        inventory: Inventory,
        complete: Callable[[HostSpec], HostSpec],
        policy: LoadBalancer | None,
    ) -> None:
        """Start the kernel again, on its host, with its endpoints.

        A host that is away is waited for until the grace is over. Then the kernel goes to another
        one, by `policy`, and keeps its endpoints here; it stays where there is no policy.
        """
        host = kernel.host
        await host.until_back(kernel.grace)
        try:
            await kernel.launch(request, self._response)
            return
        except HostError as error:
            if policy is None or host.connected:
                raise
            log.warning("kernel %s: moves: %s", kernel.kernel_id, error)
            tried = {kernel.spec.name: error}

        async def begin(spec: HostSpec) -> RemoteKernel:
            self._settle_on(kernel, complete(spec), self.host(spec))
            await kernel.launch(request, self._response)
            return kernel

        await self._place(request, inventory, policy, tried, begin)

    async def leave(self, kernel: RemoteKernel) -> None:
        """Let go of what is left of the kernel where it was: it will `move`."""
        await kernel.discard()
        kernel.host.forget(kernel)
        self._part(kernel.host)

    async def move(
        self, kernel: RemoteKernel, spec: HostSpec, agent: str, request: LaunchRequest
    ) -> None:
        """Start a kernel that has left elsewhere, by that agent, with its endpoints."""
        self._settle_on(kernel, spec, self.host_with(spec, agent))
        await kernel.launch(request, self._response)

    def _settle_on(self, kernel: RemoteKernel, spec: HostSpec, host: Host) -> None:
        """It is that host's from now on."""
        former = kernel.spec.name
        self._count(kernel.spec, -1)
        kernel.spec, kernel.host = spec, host
        self._count(kernel.spec, 1)
        events.tell(KernelMoved(kernel, former))

    async def expect(
        self, kernel_id: str, spec: HostSpec, info: Mapping[str, Any], grace: float
    ) -> RemoteKernel:
        """A kernel that an earlier process left running, with its endpoints open here already.

        `info`: its `host_connection`, `pid`, `owner` and `agent`. RemoteKernel.claim and settle
        look for it.
        """
        kernel = await self._new_kernel(kernel_id, spec, grace, info.get("agent", ""))
        kernel.expect(info["host_connection"], info.get("pid"), info.get("owner", ""))
        return kernel

    async def look_at(
        self, kernel_id: str, spec: HostSpec, agent: str, grace: float
    ) -> RemoteKernel:
        """A kernel that stays another process's; RemoteKernel.claim and settle look for it."""
        kernel = await self._new_kernel(kernel_id, spec, grace, agent)
        kernel.look_at()
        return kernel

    def let_go(self, kernel: RemoteKernel) -> None:
        """The kernel goes on, without us: whoever has its record may come for it."""
        kernel.host.leave_running(kernel)
        self._close(kernel)

    async def end(self, kernel: RemoteKernel) -> None:
        """The kernel is no longer wanted: end it if it runs, remove all that was its."""
        await kernel.discard()
        self._close(kernel)

    def has_pending_kill(self, kernel_id: str) -> bool:
        """Whether a process of that kernel may run somewhere and could not be ended yet."""
        return any(
            h.has_pending_kill(kernel_id) for h in (*self.hosts.values(), *self._former.values())
        )

    async def close(self) -> None:
        """End what this process still has, disconnect."""
        for table in self._tables.values():
            if table.refreshing is not None:
                table.refreshing.cancel()
        for kernel in [k for k in self._kernels if k.stays and not k.life.over]:
            kernel.host.leave_running(kernel)
        # The hosts first: it is they who end the kernels, and that must not wait for files here.
        hosts = [*self.hosts.values(), *self._former.values()]
        await asyncio.gather(*(host.close() for host in hosts), *self._parting)
        for kernel in list(self._kernels):
            self._close(kernel)
        await self._response.close()
        self._sockets.remove()

    async def _new_kernel(
        self, kernel_id: str, spec: HostSpec, grace: float, agent: str = ""
    ) -> RemoteKernel:
        """A kernel that is counted on its host, with its endpoints open."""
        host = self.host_with(spec, agent)
        keep = _KEEP_AFTER_GRACE_SECONDS + 2 * grace
        name = secrets.token_hex(4)

        def open_link(factory: Any) -> Any:
            return kernel.host.open_link(factory)  # wherever it is by then

        client_sockets = ClientSockets(self._sockets.path, name, kernel_id, open_link, keep)
        kernel = RemoteKernel(kernel_id, spec, host, client_sockets, grace)
        self._kernels.add(kernel)
        self._count(spec, 1)
        try:
            await client_sockets.listen()
        except OSError as error:
            self._close(kernel)
            raise KernelStartError(
                f"cannot open the kernel's sockets on this machine: {error.strerror}"
            ) from None
        except BaseException:
            self._close(kernel)
            raise
        return kernel

    def _close(self, kernel: RemoteKernel) -> None:
        if kernel in self._kernels:
            self._kernels.discard(kernel)
            events.tell(KernelForgotten(kernel))
            kernel.host.forget(kernel)
            kernel.client_sockets.close()
            self._count(kernel.spec, -1)
            self._part(kernel.host)

    def _part(self, host: Host) -> None:
        """An agent of another version is left when we have no kernel there: it ends itself."""
        key = host.address, host.directory
        if self._former.get(key) is host and not host.kernels:
            del self._former[key]
            task = asyncio.ensure_future(host.close())
            self._parting.add(task)
            task.add_done_callback(self._parting.discard)

    # -- what changes in the tables ---------------------------------------------------------

    def _count(self, spec: HostSpec, change: int) -> None:
        self._counts[spec.name] += change
        if not self._counts[spec.name]:
            del self._counts[spec.name]
        for table in self._tables.values():
            self._update_row(table, spec)

    def _host_changed(self, host: Host) -> None:
        events.tell(HostChanged(host))
        if host.circuit is not None:
            self._with_open_circuit.add(host.address)
        else:
            self._with_open_circuit.discard(host.address)
        for table in self._tables.values():
            for spec in table.at(host.address):
                self._update_row(table, spec)

    def _update_row(self, table: HostTable, spec: HostSpec) -> None:
        host = self.hosts.get(spec.address)
        table.update(spec.name, self._counts[spec.name], host.load if host is not None else None)


def _nobody(
    table: HostTable, request: LaunchRequest, errors: Mapping[str, HostError]
) -> RemoteProvisionerError:
    """Why no host is left to try: nothing fits, everything is full, or fails."""
    try:
        candidates(table.rows(set()), request.requirements)
    except NoRoomError as error:
        return error
    rows = [row for row in table.rows(set()) if request.requirements.fits(row)]
    if len(rows) == 1 and rows[0].host in errors:
        return errors[rows[0].host].at(rows[0].host)
    said = [
        f"{row.host}: {errors[row.host].message if row.host in errors else row.fullness}"
        for row in rows
    ]
    return NoHostError(f"no host can start the kernel: {'; '.join(said)}")


async def fleet() -> Fleet:
    """This process's fleet. To be called in the I/O thread, which closes it when it ends."""
    return io_thread().own(Fleet)
