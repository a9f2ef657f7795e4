"""Twenty simulated hosts: where kernels land, and what becomes of hosts that fail."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from benchmarks.simulation.starts import placer_on, request, start, start_many
from benchmarks.simulation.world import World
from remote_provisioners.engines.docker.address import ContainerAddress
from remote_provisioners.errors import HostError, NoHostError, NoRoomError, UnreachableError
from remote_provisioners.hosts import reconnect
from remote_provisioners.hosts.registry import HostRegistry
from remote_provisioners.kernels.remote_kernel import RemoteKernel
from remote_provisioners.placement import host_search
from remote_provisioners.placement import scheduler as scheduler_module
from remote_provisioners.placement.inventory import HostSpec
from remote_provisioners.placement.scheduler import Scheduler

HOSTS, KERNELS = 20, 100
LISTENING_SECONDS = 0.002
POLICIES = ["least-load", "round-robin", "least-connection"]

T = TypeVar("T")
Scenario = Callable[[World, Scheduler], Coroutine[None, None, None]]


@asynccontextmanager
async def a_scheduler(world: World) -> AsyncIterator[Scheduler]:
    """The real one, and the real registry, on simulated hosts. They leave nothing, anywhere."""
    with world.instead_of_ssh():
        registry = HostRegistry()
        directory = registry.sockets.path
        scheduler = Scheduler(registry)
        try:
            yield scheduler
        finally:
            await scheduler.close()
            await registry.close()
        assert not registry.counts
        assert not registry.kernels
        assert not any(host.kernels for host in registry.hosts.values())
        assert not any(agent.kernels for agent in world.agents.values())
        assert not directory.exists()


def simulate(scenario: Scenario, world: World | None = None) -> None:
    world = world or World(HOSTS, listening_seconds=LISTENING_SECONDS)

    async def main() -> None:
        async with a_scheduler(world) as scheduler:
            await asyncio.wait_for(scenario(world, scheduler), 30)

    asyncio.run(main())


def landed(kernels: list[RemoteKernel]) -> Counter[str]:
    return Counter(kernel.spec.name for kernel in kernels)


def there(world: World) -> Counter[str]:
    """What the agents say they run."""
    return Counter({name: agent.snapshot()["mine"] for name, agent in world.agents.items()})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("in_flight", [1, KERNELS])
def test_kernels_are_spread_evenly(policy: str, in_flight: int) -> None:
    async def scenario(world: World, scheduler: Scheduler) -> None:
        kernels = await start_many(scheduler, world.inventory(), policy, KERNELS, in_flight)
        assert landed(kernels) == there(world) == dict.fromkeys(world.names, KERNELS // HOSTS)
        assert dict.fromkeys(world.names, 1) == world.attempts  # to connect, whoever waited

    simulate(scenario)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_count_of_others_is_of_others(policy: str) -> None:
    """Our own kernels, which the agents count too, are not taken for somebody else's."""

    async def scenario(world: World, scheduler: Scheduler) -> None:
        world.agents["host0003"].others = 2
        kernels = await start_many(scheduler, world.inventory(), policy, HOSTS * 2, 1)
        hosts = scheduler.registry.hosts
        others = {str(a): h.load.others for a, h in hosts.items() if h.load is not None}
        assert others == {**dict.fromkeys(others, 0), "host0003": 2}
        assert len(others) == HOSTS
        for kernel in kernels[:HOSTS]:
            await scheduler.registry.end(kernel)
        await asyncio.sleep(0)
        assert sum(scheduler.registry.counts.values()) == sum(there(world).values()) == HOSTS

    simulate(scenario)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("in_flight", [1, KERNELS + 5])
def test_capacity_is_respected(policy: str, in_flight: int) -> None:
    async def scenario(world: World, scheduler: Scheduler) -> None:
        inventory = world.inventory(capacity=KERNELS // HOSTS)
        for spec in inventory:  # connected: their loads are asked for, and starts wait meanwhile
            await scheduler.registry.host(spec).link()
        started = await asyncio.gather(
            *(start_many(scheduler, inventory, policy, 1) for _ in range(KERNELS + 5))
            if in_flight > 1
            else [start_many(scheduler, inventory, policy, KERNELS, 1)],
            return_exceptions=True,
        )
        refused = [result for result in started if isinstance(result, BaseException)]
        assert all(isinstance(error, NoRoomError) for error in refused), refused
        assert len(refused) == (5 if in_flight > 1 else 0)
        assert there(world) == dict.fromkeys(world.names, KERNELS // HOSTS)
        assert {agent.peak for agent in world.agents.values()} == {KERNELS // HOSTS}
        with pytest.raises(NoRoomError, match="host0000 has 5 of 5 kernels"):
            await start(scheduler, inventory, policy)

    simulate(scenario)


def with_open_circuit(scheduler: Scheduler) -> set[str]:
    hosts = scheduler.registry.hosts.values()
    return {str(host.address) for host in hosts if host.circuit is not None}


@pytest.mark.parametrize("policy", POLICIES)
def test_hosts_that_refuse_are_failed_over(policy: str) -> None:
    async def scenario(world: World, scheduler: Scheduler) -> None:
        broken = world.names[::4]
        world.unreachable = dict.fromkeys(broken, 0.0)
        kernels = await start_many(scheduler, world.inventory(), policy, KERNELS)
        assert len(kernels) == KERNELS
        assert not set(broken) & set(landed(kernels))
        assert with_open_circuit(scheduler) == set(broken)
        # Who waited for the first attempt goes elsewhere; nobody begins another meanwhile.
        assert max(world.attempts[name] for name in broken) <= 4
        world.unreachable.clear()
        await until(lambda: not with_open_circuit(scheduler))
        more = await start_many(scheduler, world.inventory(), "least-connection", KERNELS)
        assert set(broken) <= set(landed(more))

    simulate(scenario)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_silent_host_costs_its_time_once(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "_UNRESPONSIVE_SECONDS", 0.1)

    async def scenario(world: World, scheduler: Scheduler) -> None:
        world.unreachable = {"host0000": 1.0, "host0007": 1.0}
        loop = asyncio.get_running_loop()
        await start_many(scheduler, world.inventory(), policy, HOSTS)
        unresponsive = with_open_circuit(scheduler)
        assert unresponsive == {"host0000", "host0007"}
        longest = 0.0
        for _ in range(HOSTS):
            began = loop.time()
            await start(scheduler, world.inventory(), policy)
            longest = max(longest, loop.time() - began)
        assert longest < 0.9  # nobody waits again
        only = world.inventory()[:1]
        with pytest.raises(UnreachableError, match="host host0000: simulated"):
            await start(scheduler, only, policy)

    simulate(scenario)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_host_without_room_for_files_is_failed_over(policy: str) -> None:
    async def scenario(world: World, scheduler: Scheduler) -> None:
        for name in world.names[:5]:
            world.agents[name].full = True
        kernels = await start_many(scheduler, world.inventory(), policy, KERNELS)
        assert len(kernels) == sum(there(world).values()) == KERNELS
        assert not set(world.names[:5]) & set(landed(kernels))

    simulate(scenario)


def test_no_host_says_why_for_each() -> None:
    async def scenario(world: World, scheduler: Scheduler) -> None:
        world.unreachable = {"host0000": 0.0}
        world.agents["host0001"].full = True
        with pytest.raises(NoHostError) as failed:
            await start(scheduler, world.inventory(), "round-robin")
        assert "host0000: simulated: it does not answer" in str(failed.value)
        assert "host0001: no room for the kernel's files" in str(failed.value)
        assert isinstance(failed.value, HostError)

    simulate(scenario, World(2))


@pytest.mark.parametrize("policy", POLICIES)
def test_starts_that_are_cancelled_are_counted_no_more(policy: str) -> None:
    """Whichever moment they are cancelled at: connecting, queued on the host, starting."""

    async def scenario(world: World, scheduler: Scheduler) -> None:
        for rounds in [*range(12), 50]:
            tasks = [
                asyncio.ensure_future(start(scheduler, world.inventory(), policy))
                for _ in range(HOSTS * 2)
            ]
            for _ in range(rounds):
                await asyncio.sleep(0)
            if rounds == 50:
                await until(lambda: sum(there(world).values()) == HOSTS * 2)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
            assert not scheduler.registry.counts
            await until(lambda: not any(agent.kernels for agent in world.agents.values()))

    simulate(scenario, World(HOSTS, cores=3, listening_seconds=5))


@pytest.mark.parametrize("step", ["chosen", "launched"])
def test_a_start_that_is_cancelled_between_its_steps_leaves_nothing(step: str) -> None:
    """What the I/O thread has just done, and who asked for it is not there to hear of."""
    steps: list[str] = []

    async def cancelled_after(coroutine: Coroutine[Any, Any, T]) -> T:
        result = await coroutine
        steps.append(coroutine.__name__)
        if len(steps) == ["chosen", "launched"].index(step) + 1:
            raise asyncio.CancelledError
        return result

    async def scenario(world: World, scheduler: Scheduler) -> None:
        placer = placer_on(scheduler, world.inventory(), "round-robin", cancelled_after)
        recorded: list[object] = []
        with pytest.raises(asyncio.CancelledError):
            await placer.start(request(), recorded.append)
        assert steps[-1] == "abandon"
        assert len(recorded) == (step == "launched")
        assert not scheduler.registry.counts
        assert not scheduler.registry.kernels
        assert not any(agent.kernels for agent in world.agents.values())

    simulate(scenario, World(2, listening_seconds=LISTENING_SECONDS))


def test_a_start_that_takes_too_long_is_counted_no_more() -> None:
    async def scenario(world: World, scheduler: Scheduler) -> None:
        with pytest.raises(Exception, match=r"did not open its ports within 0\.1 s"):
            await start(scheduler, world.inventory(), "round-robin", request(seconds=0.1))
        assert not scheduler.registry.counts

    simulate(scenario, World(1, listening_seconds=5))


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_of_two_hundred_hosts_most_are_down(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No start waits for one host after the other. Each finds a host that works. All times are a
    tenth of the real ones.
    """
    monkeypatch.setattr(host_search, "_FIRST_SECONDS", 0.2)
    monkeypatch.setattr(host_search, "_NEXT_SECONDS", 0.025)
    monkeypatch.setattr(scheduler_module, "_CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(reconnect, "_UNRESPONSIVE_SECONDS", 0.1)

    async def scenario(world: World, scheduler: Scheduler) -> None:
        world.unreachable = {name: 0.5 for n, name in enumerate(world.names) if n % 4}
        loop = asyncio.get_running_loop()
        seconds = []
        for _ in range(12):
            began = loop.time()
            kernel = await start(scheduler, world.inventory(), policy)
            seconds.append(loop.time() - began)
            assert kernel.spec.name not in world.unreachable
        print("seconds of each start:", [round(each, 3) for each in seconds])
        assert sum(seconds) < 9  # 12 starts would meet some 36 of them, for 18 s
        assert sum(kernels > 0 for kernels in there(world).values()) >= 3

    simulate(scenario, World(200, listening_seconds=LISTENING_SECONDS))


def test_the_scheduler_keeps_nothing_of_an_engines_nodes() -> None:
    """Each kernel of an engine has a host of its own, whose circuit may be open when it ends."""

    async def scenario(world: World, scheduler: Scheduler) -> None:
        address = ContainerAddress("container1")
        host = scheduler.registry.host(HostSpec("container1", address))
        host.open_circuit(HostError("no answer"))
        scheduler.registry.close_kernel(
            await scheduler.registry.new_kernel("k1", HostSpec("container1", address), 1.0)
        )
        gone = weakref.ref(host.address)
        assert not scheduler.registry.hosts
        del address, host
        while gone() is not None:  # the host is closed in the background
            await asyncio.sleep(0.01)
            gc.collect()

    simulate(scenario)
