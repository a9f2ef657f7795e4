"""A submission to an engine that is none: what every engine can rely on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.simulation.starts import request
from remote_provisioners.engines.base import Engine, Launch, Node, Progress
from remote_provisioners.engines.placer import EnginePlacer
from remote_provisioners.engines.submission import Submission
from remote_provisioners.errors import (
    HostError,
    KernelStartError,
    LaunchTimeoutError,
    UnreachableError,
)
from remote_provisioners.io_thread import close_io_thread, in_io_thread
from remote_provisioners.options.launch_request import LaunchRequest
from remote_provisioners.placement.host_address import HostAddress


@dataclass(frozen=True)
class PipedNode(Node):
    """One that this machine cannot connect to."""

    @property
    def address(self) -> HostAddress:
        return HostAddress(self.host)


NODE = PipedNode("node", "/tmp/agent", "python3", "/home/user")


class NeverArrives(Engine):
    """It waits for room. What it submits with is there until somebody cancels."""

    name = "Queue"
    node_type = PipedNode

    def __init__(self) -> None:
        self.submitter: asyncio.Task[None] | None = None
        self.arrival: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        self.cancelled: list[str] = []
        self.followed = 0

    async def check(self) -> None:
        pass

    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        self.submitter = asyncio.ensure_future(asyncio.sleep(3600))
        return self.arrival

    async def follow(self, tag: str) -> Progress | None:
        self.followed += 1
        return Progress("job 7", "waits for room") if self.followed > 1 else None

    async def cancel(self, tag: str) -> None:
        self.cancelled.append(tag)
        if self.submitter is not None:
            self.submitter.cancel()

    async def diagnose(self, tag: str) -> str:
        return "no account"


class Arrives(NeverArrives):
    async def follow(self, tag: str) -> Progress | None:
        if self.followed == 2 and not self.arrival.done():
            self.arrival.set_result(NODE)
        return await super().follow(tag)


class Imports(Arrives):
    """It needs a package that takes long to import."""

    async def prepare(self) -> None:
        await asyncio.sleep(1.7)


class Refuses(NeverArrives):
    async def follow(self, tag: str) -> Progress | None:
        return Progress("job 7", over=True)


class Busy(Arrives):
    """It does not answer the first time that it is asked."""

    async def follow(self, tag: str) -> Progress | None:
        if not self.followed:
            self.followed = 1
            raise UnreachableError("busy")
        return await super().follow(tag)


class Away(NeverArrives):
    async def check(self) -> None:
        raise UnreachableError("it does not answer")


def submission(engine: Engine, seconds: float = 20) -> Submission:
    return Submission(engine, request(seconds=seconds))


@pytest.mark.parametrize("kind", [Arrives, Busy])
def test_the_node_that_arrives(kind: type[NeverArrives]) -> None:
    """What submits is still there, as a pipe to the node would be."""

    async def body() -> None:
        engine = kind()
        submitted = submission(engine)
        node, seconds = await submitted.run()
        assert node is NODE
        assert 0 < seconds < 20
        assert (submitted.id, submitted.text) == ("job 7", "")
        assert engine.cancelled == []
        assert engine.submitter is not None
        assert not engine.submitter.done()
        engine.submitter.cancel()

    asyncio.run(body())


def test_an_import_is_not_the_kernels_time() -> None:
    async def body() -> None:
        engine = Imports()
        node, seconds = await submission(engine, seconds=1.5).run()
        assert node is NODE
        assert 1 <= seconds < 1.5
        assert engine.submitter is not None
        engine.submitter.cancel()

    asyncio.run(body())


def test_why_it_is_over_is_the_engines_word() -> None:
    async def body() -> None:
        engine = Refuses()
        submitted = submission(engine)
        with pytest.raises(KernelStartError, match="no account"):
            await submitted.run()
        assert engine.cancelled == [submitted.launch.tag]
        assert engine.arrival.cancelled()

    asyncio.run(body())


def test_who_waits_too_long_is_told_what_for() -> None:
    async def body() -> None:
        engine = NeverArrives()
        submitted = submission(engine, seconds=0.8)
        with pytest.raises(LaunchTimeoutError, match=r"Queue .* within 0\.8 s .*waits for room"):
            await submitted.run()
        assert engine.cancelled == [submitted.launch.tag]
        assert engine.arrival.cancelled()

    asyncio.run(body())


def test_who_gives_up_leaves_nothing() -> None:
    async def body() -> None:
        engine = NeverArrives()
        submitted = submission(engine)
        running = asyncio.ensure_future(submitted.run())
        while not submitted.text:
            await asyncio.sleep(0.01)
        assert submitted.text == "waits for room"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert engine.cancelled == [submitted.launch.tag]
        assert engine.arrival.cancelled()

    asyncio.run(body())


class CannotCancel(NeverArrives):
    async def cancel(self, tag: str) -> None:
        await super().cancel(tag)
        raise UnreachableError("it does not answer")


def test_a_failed_cancellation_does_not_replace_the_first_error() -> None:
    async def body() -> None:
        with pytest.raises(LaunchTimeoutError, match="waits for room"):
            await submission(CannotCancel(), seconds=0.8).run()
        running = asyncio.ensure_future(submission(CannotCancel()).run())
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(body())


class CancelsSlowly(NeverArrives):
    async def cancel(self, tag: str) -> None:
        await asyncio.sleep(0.3)
        await super().cancel(tag)


class Options:
    """The options of a provisioner, for a placer."""

    network_grace = 1.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def engine(self, request: LaunchRequest | None) -> Engine:
        return self._engine


async def of_the_thread(kind: type[NeverArrives]) -> NeverArrives:
    return kind()


def test_a_cancelled_start_returns_when_the_engine_has_cancelled_it() -> None:
    """The start runs on one loop, its submission on another."""

    async def body() -> None:
        engine = await in_io_thread(of_the_thread(CancelsSlowly))
        placer = EnginePlacer(Options(engine), CancelsSlowly)
        starting = asyncio.ensure_future(placer.start(request(), lambda where: None))
        while placer.reason(None) != "waits for room":
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert len(engine.cancelled) == 1

    try:
        asyncio.run(body())
    finally:
        close_io_thread()


def test_a_process_that_ends_cancels_its_waiting_submissions() -> None:
    """When its user interrupts a console, nobody cancels the console's start."""

    async def begun() -> tuple[NeverArrives, asyncio.Task[Any]]:
        engine = await in_io_thread(of_the_thread(CancelsSlowly))
        placer = EnginePlacer(Options(engine), CancelsSlowly)
        starting = asyncio.ensure_future(placer.start(request(), lambda where: None))
        while placer.reason(None) != "waits for room":
            await asyncio.sleep(0.01)
        return engine, starting

    loop = asyncio.new_event_loop()
    engine, starting = loop.run_until_complete(begun())
    close_io_thread()
    assert len(engine.cancelled) == 1
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(starting)
    close_io_thread()  # the cancellation has begun a second thread
    loop.close()


def test_nothing_is_submitted_to_an_engine_that_is_away() -> None:
    async def body() -> None:
        engine = Away()
        with pytest.raises(HostError, match="it does not answer"):
            await submission(engine).run()
        assert engine.submitter is None
        assert engine.cancelled == []

    asyncio.run(body())


def test_a_secret_is_not_in_what_is_printed() -> None:
    async def body() -> None:
        launch = submission(Away()).launch
        assert launch.secret not in repr(launch)

    asyncio.run(body())
