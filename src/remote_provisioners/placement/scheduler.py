"""Choose the host of a start, and the next one if it fails. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping

from ..errors import (
    ConfigurationError,
    HostError,
    HostFullError,
    NoHostError,
    NoRoomError,
    RemoteProvisionerError,
)
from ..hosts.host import Host
from ..hosts.registry import HostRegistry, host_registry
from ..io_thread import io_thread
from ..options.launch_request import LaunchRequest
from .host_address import HostAddress
from .host_table import HostTable
from .inventory import HostSpec, Inventory
from .policies import HostRow, LoadBalancer, candidates, every_host_full, no_host_fits

log = logging.getLogger(__name__)

#: How long a start waits for the hosts' loads if the policy needs fresh ones.
_LOAD_SECONDS = 0.5
#: Younger reports are fresh enough. Our own starts are counted separately.
_FRESH_SECONDS = 0.5
#: The same if some hosts are not connected yet.
_CONNECT_SECONDS = 2.0
_CONNECTING_AT_ONCE = 16
#: The number of inventories whose tables are kept. Only changing configurations have more.
_MOST_TABLES = 64


class Scheduler:
    """Chooses hosts for the starts of this process. There is one: see `scheduler()`.

    It keeps a table for each inventory. The registry reports changes of hosts.
    """

    def __init__(self, registry: HostRegistry) -> None:
        self.registry = registry
        registry.watcher = self
        #: By the id of their inventory. The tables keep it alive.
        self._tables: dict[int, HostTable] = {}
        self._with_open_circuit: set[HostAddress] = set()

    async def close(self) -> None:
        """Stop asking hosts for their loads."""
        for table in self._tables.values():
            if table.refreshing is not None:
                table.refreshing.cancel()

    # -- choosing ---------------------------------------------------------------------------

    async def choose(
        self,
        table: HostTable,
        policy: LoadBalancer,
        turn: int,
        request: LaunchRequest,
        tried: Mapping[str, HostError],
    ) -> HostSpec:
        """The host to try next. Raises NoRoomError or HostError if there is none."""
        # Whose kernels fill a host is for its agent to tell.
        if policy.needs_load or any(spec.capacity is not None for spec in table.specs.values()):
            await self._refresh(table)
        rows = self._candidates(table, request, tried)
        chosen = policy.choose(rows, turn)
        for row in rows:
            if row.host == chosen:
                return table.specs[row.host]
        raise ConfigurationError(
            f"load balancing by {type(policy).__name__} returned {chosen!r}, "
            "which is not a candidate"
        )

    def has_candidate(
        self, table: HostTable, request: LaunchRequest, tried: Mapping[str, HostError]
    ) -> bool:
        """Whether any host may be tried."""
        with contextlib.suppress(RemoteProvisionerError):
            return bool(self._candidates(table, request, tried))
        return False

    def _candidates(
        self, table: HostTable, request: LaunchRequest, tried: Mapping[str, HostError]
    ) -> list[HostRow]:
        """The hosts to try. Raises NoRoomError or HostError if there is none."""
        failing = self._open_circuits(table)
        try:
            return candidates(table.rows({*tried, *failing}), request.requirements)
        except NoRoomError:
            pass
        # Retry hosts with an open circuit that fail fast; otherwise report why none is left.
        again = {n for n in failing if n not in tried and not self._unresponsive(table, n)}
        try:
            return candidates(table.rows(table.specs.keys() - again), request.requirements)
        except NoRoomError:
            raise _no_candidate(table, request, {**failing, **tried}) from None

    def _open_circuits(self, table: HostTable) -> dict[str, HostError]:
        """The hosts of a table with an open circuit, and the errors that opened it."""
        if not self._with_open_circuit:
            return {}
        found = {}
        for name, spec in table.specs.items():
            if spec.address in self._with_open_circuit and (
                circuit := self.registry.hosts[spec.address].circuit
            ):
                found[name] = circuit.error
        return found

    def _unresponsive(self, table: HostTable, name: str) -> bool:
        circuit = self.registry.hosts[table.specs[name].address].circuit
        return circuit is not None and circuit.unresponsive

    # -- loads ------------------------------------------------------------------------------

    async def _refresh(self, table: HostTable) -> None:
        """Ask the hosts of a table for their loads, once for all starts that wait."""
        loop = asyncio.get_running_loop()
        if loop.time() - table.refreshed < _FRESH_SECONDS:
            return
        if table.refreshing is None:
            table.refreshing = asyncio.ensure_future(self._ask_loads(table))
        await asyncio.shield(table.refreshing)

    async def _ask_loads(self, table: HostTable) -> None:
        """Ask the hosts for their loads. A host that does not answer in time keeps its last report.

        Hosts without a connection are connected first. This takes longer, but only once.
        """
        failing = self._open_circuits(table)
        known = [
            self.registry.host(spec) for name, spec in table.specs.items() if name not in failing
        ]
        began = time.monotonic()
        # A start does not wait again for a host that is silent.
        hosts = [h for h in known if began - (h.connecting_since or began) < _CONNECT_SECONDS]
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

    # -- tables -----------------------------------------------------------------------------

    def table(self, inventory: Inventory) -> HostTable:
        table = self._tables.pop(id(inventory), None)
        if table is None:
            table = HostTable(inventory)
            for spec in inventory:
                if spec.address in self.registry.hosts:
                    self._update_row(table, spec)
        self._tables[id(inventory)] = table
        if len(self._tables) > _MOST_TABLES:
            del self._tables[next(iter(self._tables))]
        return table

    def on_host_changed(self, host: Host) -> None:
        """Called by the registry: the load or the circuit of a host has changed."""
        if host.address.is_of_engine:  # no inventory has it
            return
        if host.circuit is not None:
            self._with_open_circuit.add(host.address)
        else:
            self._with_open_circuit.discard(host.address)
        for table in self._tables.values():
            for spec in table.at(host.address):
                self._update_row(table, spec)

    def on_count_changed(self, spec: HostSpec) -> None:
        """Called by the registry: this server's number of kernels on a host has changed."""
        for table in self._tables.values():
            self._update_row(table, spec)

    def _update_row(self, table: HostTable, spec: HostSpec) -> None:
        host = self.registry.hosts.get(spec.address)
        load = host.load if host is not None else None
        table.update(spec.name, self.registry.counts[spec.name], load)


def _no_candidate(
    table: HostTable, request: LaunchRequest, errors: Mapping[str, HostError]
) -> RemoteProvisionerError:
    """Why no host is left: none meets the requirements, all are full, or all fail."""
    rows = [row for row in table.rows(set()) if request.requirements.fits(row)]
    if not rows:
        return no_host_fits(table.rows(set()), request.requirements)
    # A failed host's row still counts the kernel that could not be started there.
    said = {r.host: errors[r.host].message if r.host in errors else r.fullness for r in rows}
    failed = [
        row.host for row in rows if not isinstance(errors.get(row.host), HostFullError | None)
    ]
    if not failed:
        return every_host_full(said.items())
    if len(rows) == 1:
        return errors[failed[0]].at(failed[0])
    lines = [f"{host}: {why}" for host, why in said.items()]
    return NoHostError("\n".join(["no host can start the kernel:", *lines]))


async def scheduler() -> Scheduler:
    """This process's scheduler. Call it in the I/O thread, which closes it when it ends."""
    registry = await host_registry()
    return io_thread().own(Scheduler, lambda: Scheduler(registry))
