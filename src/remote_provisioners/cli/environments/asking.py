"""Ask hosts for their environments, from a command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from ...environments.host_entry import for_environments
from ...environments.survey import HostEnvironments, environments_on
from ...io_thread import io_thread
from ...placement.inventory import HostSpec, merged
from ..command import Command, CommandError, using_hosts
from ..configured import configured_hosts
from ..waiting import Waiting

T = TypeVar("T")


def with_hosts(work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, then leave the hosts."""

    async def done() -> T:
        async with using_hosts():
            return await work

    return asyncio.run(done())


def hosts_named(command: Command, names: Sequence[str]) -> list[HostSpec]:
    """The named hosts, or all configured hosts, each once. Raises CommandError."""
    found: dict[object, tuple[HostSpec, HostSpec]] = {}
    for place in configured_hosts(command, names):
        if place.error and names:
            raise CommandError(place.error)
        if place.error:
            print(f"kernelspec {', '.join(place.kernelspecs)}: {place.error}", file=sys.stderr)
        else:
            one = place.listed or place.host
            listed, completed = found.get(place.host.address, (one, place.host))
            found[place.host.address] = merged(listed, one), completed
    return [for_environments(*both, command.config) for both in found.values()]


async def environments_as_found(
    specs: Sequence[HostSpec], directories: Sequence[str]
) -> AsyncIterator[HostEnvironments]:
    """The environments of each host as soon as it has answered."""
    call = io_thread().call
    asked = [asyncio.ensure_future(call(environments_on(spec, directories))) for spec in specs]
    try:
        async with Waiting(spec.name for spec in specs) as waiting:
            for answer in asyncio.as_completed(asked):
                found = await answer
                waiting.answered(found.host.name)
                yield found
    finally:
        for asking in asked:
            asking.cancel()


def in_order(
    found: Sequence[HostEnvironments], specs: Sequence[HostSpec]
) -> list[HostEnvironments]:
    """The answers in the order of the hosts."""
    order = {spec.name: number for number, spec in enumerate(specs)}
    return sorted(found, key=lambda host: order[host.host.name])
