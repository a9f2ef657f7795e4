"""One server with so many hosts and kernels, from its first connection to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from remote_provisioners.hosts.registry import HostRegistry
from remote_provisioners.kernels.client_sockets import ClientSockets
from remote_provisioners.placement.scheduler import Scheduler

from .process import Stopwatch, descriptors, raise_descriptor_limit, resident
from .starts import start_many
from .world import World

#: Descriptors that are not those of forwards.
_RESERVED = 200
_DESCRIPTORS_A_KERNEL = 5
#: For starts by least-load, which asks every host each time.
_LEAST_LOAD_STARTS, _LEAST_LOAD_SECONDS = 50, 3.0


@dataclass(frozen=True)
class Scale:
    """What is simulated. Without `sockets` the forwards are left out."""

    hosts: int
    kernels: int
    sockets: bool = True
    idle_seconds: float = 10.0
    report_seconds: float = 5.0


@dataclass(frozen=True)
class Found:
    """What came of it. CPU times are the server's, without the simulated agents'."""

    hosts: int
    kernels: int
    wanted: int
    sockets: bool
    base_bytes: int
    host_bytes: float
    kernel_bytes: float
    total_bytes: int
    descriptors: int
    connects_a_second: float
    starts_a_second: float
    start_cpu_seconds: float
    least_load_starts_a_second: float
    least_load_cpu_seconds: float
    idle_cpu: float
    report_cpu: float
    reports_a_second: float
    close_seconds: float


def measure(scale: Scale) -> Found:
    kernels = scale.kernels
    if scale.sockets:
        affordable = (raise_descriptor_limit() - _RESERVED) // _DESCRIPTORS_A_KERNEL
        kernels = min(kernels, affordable)
    # On a single host many cores: the agent's queue is not what is measured.
    world = World(scale.hosts, cores=64 if scale.hosts == 1 else 8)
    with world.instead_of_ssh(), _forwards(scale.sockets):
        return asyncio.run(_measure(scale, kernels, world))


async def _measure(scale: Scale, kernels: int, world: World) -> Found:
    registry, inventory = HostRegistry(), world.inventory()
    scheduler = Scheduler(registry)
    base = resident()

    watch = Stopwatch()
    await asyncio.gather(*(registry.host(spec).link() for spec in inventory))
    connecting = watch.seconds
    connected = resident()

    slow, watch = min(_LEAST_LOAD_STARTS, kernels), Stopwatch()
    started = await start_many(
        scheduler, inventory, "least-load", slow, in_flight=1, seconds=_LEAST_LOAD_SECONDS
    )
    slow, slow_seconds, slow_cpu = len(started), watch.seconds, watch.cpu_seconds

    watch, before = Stopwatch(), resident()
    started += await start_many(scheduler, inventory, "round-robin", kernels - slow)
    starting, start_cpu = watch.seconds, watch.cpu_seconds
    total = resident()
    assert len(started) == kernels

    idle_cpu = await _cpu(scale.idle_seconds)
    told = sum(agent.told for agent in world.agents.values())
    for agent in world.agents.values():
        agent.be_restless()
    report_cpu = await _cpu(scale.report_seconds)
    told = sum(agent.told for agent in world.agents.values()) - told
    opened = descriptors()

    watch = Stopwatch()
    await registry.close()
    closing = watch.seconds
    assert not any(agent.kernels for agent in world.agents.values())

    fast = kernels - slow
    return Found(
        hosts=scale.hosts,
        kernels=kernels,
        wanted=scale.kernels,
        sockets=scale.sockets,
        base_bytes=base,
        host_bytes=(connected - base) / scale.hosts,
        kernel_bytes=(total - before) / fast,
        total_bytes=total,
        descriptors=opened,
        connects_a_second=scale.hosts / connecting,
        starts_a_second=fast / starting,
        start_cpu_seconds=start_cpu / fast,
        least_load_starts_a_second=slow / slow_seconds,
        least_load_cpu_seconds=slow_cpu / slow,
        idle_cpu=idle_cpu,
        report_cpu=report_cpu,
        reports_a_second=told / scale.report_seconds,
        close_seconds=closing,
    )


async def _cpu(seconds: float) -> float:
    """The part of one core that the server takes meanwhile."""
    watch = Stopwatch()
    await asyncio.sleep(seconds)
    return watch.cpu_seconds / watch.seconds


@contextmanager
def _forwards(sockets: bool) -> Iterator[None]:
    if sockets:
        yield
        return

    async def listen(forward: ClientSockets) -> None:
        """Left out."""

    with patch.object(ClientSockets, "listen", listen):
        yield
