"""The base of commands that look for kernels on the configured hosts."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence

from ...errors import RemoteProvisionerError
from ...hosts.deploy_agent import agent_version, version_of
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...placement.inventory import HostSpec
from ...protocol.agent_requests import GetStatus
from ...server.restore.record import Record
from ...server.restore.records import all_records, records_parent
from ..command import Command, Text, using_hosts
from ..configured import ConfiguredHost, configured_hosts, engine_kernelspecs
from ..hosts.survey import as_they_answer, merged
from ..waiting import Waiting
from .found import FoundKernel
from .of_engines import kernels_of_engines, recorded


class SearchCommand(Command):
    """Runs `work` on an event loop and closes the connections afterwards."""

    aliases = Command.aliases | {"host": "SearchCommand.host"}
    reads_hosting_config = True

    host = Text(help="Look on this host only. It need not be configured.").tag(config=True)

    def run(self) -> int:
        return asyncio.run(self._run())

    async def _run(self) -> int:
        async with using_hosts():
            return await self.work()

    async def work(self) -> int:
        """Run the command. Returns the exit code. Raises CommandError, RemoteProvisionerError."""
        raise NotImplementedError

    async def search(self, hosts: Sequence[str] = ()) -> tuple[list[FoundKernel], list[str]]:
        """The kernels on these hosts, or on all, and the failures of hosts that did not answer."""
        found: list[FoundKernel] = []
        failures: list[str] = []
        async for kernels, failed in self.found(hosts):
            found += kernels
            failures += failed
        return found, failures

    async def found(
        self, hosts: Sequence[str] = ()
    ) -> AsyncIterator[tuple[list[FoundKernel], list[str]]]:
        """The kernels of each host as soon as it has answered, and what failed there."""
        places = self.places(hosts)
        usable = [place.host for place in places if not place.error]
        await io_thread().call(_note_agents(usable, self._records))
        async with Waiting(place.host.name for place in merged(places)) as waiting:
            async for answer in as_found(places, waiting.answered):
                yield answer
        if not hosts and not self.host:
            yield await io_thread().call(kernels_of_engines(engine_kernelspecs(self)))

    def places(self, hosts: Sequence[str] = ()) -> list[ConfiguredHost]:
        """Where to look: these hosts, or all."""
        names = [*hosts, self.host] if self.host else hosts
        places = configured_hosts(self, names)
        if not names:  # and where records say that kernels are: requests may name other hosts
            listed = {place.host.name for place in places}
            placed = {record.kernel_id for record in recorded(engine_kernelspecs(self))}
            known = {r.info["host"] for r in self._records if r.kernel_id not in placed}
            others = sorted(known - listed)
            places += configured_hosts(self, others) if others else []
        return places

    @functools.cached_property
    def _records(self) -> list[Record]:
        return [record for _, record in all_records(records_parent())]


async def _note_agents(hosts: Sequence[HostSpec], records: Sequence[Record]) -> None:
    """Records say where agents are: this login may have another TMPDIR."""
    registry = await host_registry()
    agents = sorted(
        {
            (record.info["host"], agent)
            for record in records
            if (agent := str(record.info.get("agent", ""))) and version_of(agent) == agent_version()
        }
    )
    for host in hosts:
        for name, directory in agents:
            if name == host.name:
                registry.host_with(host, directory)


async def as_found(
    places: Sequence[ConfiguredHost], on_answer: Callable[[str], None]
) -> AsyncIterator[tuple[list[FoundKernel], list[str]]]:
    """The kernels of each host as soon as it has answered, and what failed there."""
    specs = {place.host.name: place.host for place in reversed(places)}
    async for status in as_they_answer(places):
        host = specs[status.host]
        found = [FoundKernel(host, kernel) for kernel in status.kernels]
        failures = [] if status.up else [f"{status.host}: {status.error}"]
        for directory in status.agent.get("others", ()):
            asking = _of_another_version(host, directory, failures)
            found += await io_thread().call(asking)
        on_answer(status.host)
        yield found, failures


async def _of_another_version(
    host: HostSpec, directory: str, failures: list[str]
) -> list[FoundKernel]:
    """The kernels of an agent that another version of this package started."""
    try:
        status = await (await host_registry()).host_with(host, directory).request(GetStatus())
    except RemoteProvisionerError as error:
        failures.append(f"{host.name}: the agent in {directory}: {error.message}")
        return []
    return [FoundKernel(host, kernel.fields(), directory) for kernel in status.kernels]
