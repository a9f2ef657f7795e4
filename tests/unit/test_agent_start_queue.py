"""The start queue: its limit, its order, and that no slot is lost at whichever moment one ends."""

from __future__ import annotations

import asyncio
import random

import pytest

from remote_provisioners.agent.kernels.start_queue import StartQueue


class Starts:
    """Starts in a queue, and what became of each."""

    def __init__(self, limit: int) -> None:
        self.queue = StartQueue(limit)
        self.admitted: list[str] = []
        self.refused: list[str] = []
        self.waited: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *names: str) -> None:
        """Each name is the owner's and a number: a1."""
        for name in names:
            self.tasks[name] = asyncio.ensure_future(self._enter(name))
        await settle()

    async def _enter(self, name: str) -> None:
        entered = await self.queue.enter(name[0], name, lambda: self.waited.append(name))
        (self.admitted if entered else self.refused).append(name)

    async def leave(self, *names: str) -> None:
        for name in names:
            self.queue.leave(name)
        await settle()

    @property
    def lost(self) -> bool:
        """Whether the queue still holds something when all have left."""
        return repr(self.queue) != f"<StartQueue 0/{self.queue.limit} waiting={{}}>"


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_at_most_the_limit_and_in_order() -> None:
    async def body() -> None:
        starts = Starts(2)
        await starts.ask("a1", "a2", "a3", "a4")
        assert (starts.admitted, starts.waited) == (["a1", "a2"], ["a3", "a4"])
        await starts.leave("a2")
        assert starts.admitted == ["a1", "a2", "a3"]
        await starts.leave("a1", "a3")
        assert starts.admitted == ["a1", "a2", "a3", "a4"]
        await starts.leave("a4")
        assert not starts.lost

    asyncio.run(body())


def test_owners_take_turns() -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask("a0", "a1", "a2", "a3", "b1", "b2", "c1")
        for name in ("a0", "a1", "b1", "c1", "a2", "b2", "a3"):
            assert starts.admitted[-1] == name
            await starts.leave(name)
        assert not starts.lost

    asyncio.run(body())


def test_who_comes_late_does_not_wait_for_all_of_another() -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask(*(f"a{number}" for number in range(6)))
        await starts.leave("a0")
        await starts.ask("b1")
        await starts.leave("a1")
        await starts.leave("a2")
        assert starts.admitted == ["a0", "a1", "a2", "b1"]

    asyncio.run(body())


def test_given_up_while_it_waits() -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask("a1", "a2", "a3")
        await starts.leave("a2")
        assert starts.refused == ["a2"]
        await starts.leave("a1")
        assert starts.admitted == ["a1", "a3"]
        await starts.leave("a3")
        assert not starts.lost

    asyncio.run(body())


def test_given_up_at_the_moment_of_its_turn() -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask("a1", "a2", "a3")
        starts.queue.leave("a1")  # a2 has the slot, and has not run yet
        await starts.leave("a2")
        assert (starts.admitted, starts.refused) == (["a1", "a3"], ["a2"])
        await starts.leave("a3")
        assert not starts.lost

    asyncio.run(body())


@pytest.mark.parametrize("with_its_turn", [False, True])
def test_cancelled(with_its_turn: bool) -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask("a1", "a2", "a3")
        if with_its_turn:
            starts.queue.leave("a1")
        starts.tasks["a2"].cancel()
        await settle()
        await starts.leave("a1")
        assert starts.admitted == ["a1", "a3"]
        await starts.leave("a3")
        assert not starts.lost

    asyncio.run(body())


def test_cancelled_and_its_turn_before_it_runs() -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask("a1", "a2", "a3")
        starts.tasks["a2"].cancel()
        await starts.leave("a1")
        assert starts.admitted == ["a1", "a3"]
        await starts.leave("a3")
        assert not starts.lost

    asyncio.run(body())


def test_who_cannot_be_told_that_it_waits_does_not_wait() -> None:
    async def body() -> None:
        queue = StartQueue(1)
        assert await queue.enter("a", 1, lambda: None)
        with pytest.raises(ZeroDivisionError):
            await queue.enter("a", 2, lambda: print(1 / 0))
        queue.leave(1)
        assert repr(queue) == "<StartQueue 0/1 waiting={}>"

    asyncio.run(body())


def test_to_leave_twice_is_to_leave_once() -> None:
    async def body() -> None:
        starts = Starts(1)
        await starts.ask("a1", "a2", "a3")
        await starts.leave("a1", "a1", "never")
        assert starts.admitted == ["a1", "a2"]

    asyncio.run(body())


@pytest.mark.parametrize("seed", range(40))
def test_no_slot_is_lost_whatever_happens(seed: int) -> None:
    """Starts that end, are cancelled and are given up at random moments."""
    chance = random.Random(seed)

    async def start(queue: StartQueue, name: str) -> None:
        try:
            if await queue.enter(name[0], name, lambda: None):
                for _ in range(chance.randint(0, 3)):
                    await asyncio.sleep(0)
        finally:
            queue.leave(name)

    async def body() -> None:
        queue = StartQueue(chance.randint(1, 3))
        tasks: dict[str, asyncio.Task[None]] = {}
        for number in range(30):
            name = f"{chance.choice('abc')}{number}"
            tasks[name] = asyncio.ensure_future(start(queue, name))
            for _ in range(chance.randint(0, 2)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                tasks[chance.choice(list(tasks))].cancel()
            if chance.random() < 0.3:
                queue.leave(chance.choice(list(tasks)))
            starting = int(repr(queue).split()[1].partition("/")[0])
            assert starting <= queue.limit
        await asyncio.wait_for(asyncio.gather(*tasks.values(), return_exceptions=True), 5)
        assert repr(queue) == f"<StartQueue 0/{queue.limit} waiting={{}}>"

    asyncio.run(body())
