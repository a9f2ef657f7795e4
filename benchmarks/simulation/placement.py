"""The time of one placement alone: the table's rows, the candidates, the policy."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from unittest.mock import patch

from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts.registry import HostRegistry
from remote_provisioners.placement.inventory import HostSpec, Inventory, read_inventory
from remote_provisioners.placement.policies import Load, load_balancer, load_balancers
from remote_provisioners.placement.scheduler import Scheduler

from . import starts
from .world import World

_REPEATS = 200
_SILENT_SECONDS = 60.0
_WEIGHTS = (0.5, 1.0, 2.0, 4.0)


def measure(counts: list[int]) -> dict[str, dict[str, float]]:
    """Milliseconds, the median, by policy and by kind of table."""
    return asyncio.run(_measure(counts))


async def _measure(counts: list[int]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {name: {} for name in sorted(load_balancers())}
    for count in counts:
        world = World(count)
        plain = world.inventory(capacity=64)
        for policy, times in found.items():
            times[f"{count:,}"] = await _median(world, plain, policy, {}, troubles=0)
    motley = read_inventory(
        [
            {"host": name, "capacity": 64, "weight": _WEIGHTS[number % 4], "labels": ["big"]}
            for number, name in enumerate(world.names)
        ]
    )
    requirements = {"KERNEL_HOST_LABELS": "big"}
    for policy, times in found.items():
        times["motley"] = await _median(world, motley, policy, requirements, count // 10)
    return found


async def _median(
    world: World, inventory: Inventory, policy: str, environ: dict[str, str], troubles: int
) -> float:
    """No host is asked for its load; what they have reported is known."""
    with world.instead_of_ssh(), patch.object(Scheduler, "_refresh", _nothing):
        registry = HostRegistry()
        scheduler = Scheduler(registry)
        try:
            _report(scheduler, inventory)
            _open_circuits(world, registry, inventory[:troubles])
            table, balancer = scheduler.table(inventory), load_balancer(policy)
            request = starts.request(environ)
            samples = []
            for turn in range(_REPEATS):
                began = time.perf_counter()
                await scheduler.choose(table, balancer, turn, request, {})
                samples.append((time.perf_counter() - began) * 1000)
            return statistics.median(samples)
        finally:
            await registry.close()


async def _nothing(scheduler: Scheduler, specs: Sequence[HostSpec]) -> None:
    """In place of asking hosts."""


def _report(scheduler: Scheduler, inventory: Inventory) -> None:
    table, chance = scheduler.table(inventory), random.Random(0)
    for spec in inventory:
        load = Load(8, chance.random() * 8, 2**36, 2**35, others=chance.randrange(3))
        table.update(spec.name, chance.randrange(12), load)


def _open_circuits(world: World, registry: HostRegistry, specs: Sequence[HostSpec]) -> None:
    for spec in specs:
        world.unreachable[spec.name] = _SILENT_SECONDS
        registry.host(spec).open_circuit(UnreachableError("simulated"), unresponsive=True)
