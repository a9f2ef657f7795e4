"""The starts that are under way: told step by step, given up on request."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from remote_provisioners.errors import StartCancelledError, UnreachableError
from remote_provisioners.events import Event, EventFeed, Phase, StartProgress, events
from remote_provisioners.kernels.start.starts import Starts


@pytest.fixture
def told() -> Iterator[list[StartProgress]]:
    heard: list[StartProgress] = []

    def listen(event: Event) -> None:
        assert isinstance(event, StartProgress)
        heard.append(event)

    stop = events.listen(listen)
    yield heard
    stop()


async def _steps(starts: Starts) -> str:
    starts.note("k", Phase.CONNECTING, host="h1")
    starts.note("k", Phase.QUEUED, ahead=2)
    return "it runs"


def test_each_step_of_a_start_is_told(told: list[StartProgress]) -> None:
    starts = Starts()
    assert asyncio.run(starts.run("k", _steps(starts))) == "it runs"
    steps = [(event.phase, event.host, event.ahead) for event in told]
    assert steps == [
        (Phase.PLACING, "", None),
        (Phase.CONNECTING, "h1", None),
        (Phase.QUEUED, "h1", 2),
        (Phase.READY, "h1", None),
    ]
    assert starts.under_way == []


def test_the_error_of_a_start_and_its_host_are_told(told: list[StartProgress]) -> None:
    error = UnreachableError("nothing answers", host="h2")

    async def fails() -> None:
        raise error

    with pytest.raises(UnreachableError):
        asyncio.run(Starts().run("k", fails()))
    assert (told[-1].phase, told[-1].host, told[-1].error) == (Phase.FAILED, "h2", error)


def test_a_start_that_somebody_cancels_says_so_and_stops(told: list[StartProgress]) -> None:
    stopped = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    async def main() -> None:
        starts = Starts()
        running = asyncio.ensure_future(starts.run("k", waits()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [start.kernel_id for start in starts.under_way] == ["k"]
        assert starts.cancel("k")
        with pytest.raises(StartCancelledError):
            await running
        assert not starts.cancel("k")

    asyncio.run(main())
    assert stopped
    assert told[-1].phase is Phase.CANCELLED


def test_who_awaits_a_start_and_is_cancelled_takes_the_start_with_it() -> None:
    stopped = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    async def main() -> None:
        running = asyncio.ensure_future(Starts().run("k", waits()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert stopped


def test_a_caller_cancelled_early_waits_for_the_end_of_its_start() -> None:
    stopped = []

    async def stops_slowly() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            stopped.append(True)

    async def slowly(coroutine: Coroutine[Any, Any, Any]) -> Any:
        await asyncio.sleep(0.05)
        return await coroutine

    async def main() -> None:
        running = asyncio.ensure_future(Starts().run("k", stops_slowly(), io=slowly))
        await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert stopped

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # `slowly` never awaited the first coroutine
        asyncio.run(main())


def test_a_listener_that_fails_is_no_matter_to_the_others() -> None:
    feed, heard = EventFeed(), []

    def fails(event: Event) -> None:
        raise ValueError

    feed.listen(fails)
    stop = feed.listen(heard.append)
    event = StartProgress("k", Phase.PLACING)
    feed.tell(event)
    stop()
    feed.tell(event)
    assert heard == [event]
