"""The start queue: how many kernels start at a time on this host, and which one is next.

Starting a kernel takes much CPU time (imports, compilation). On average, kernels that start one
after the other are ready sooner than kernels that all start at once. Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, Hashable, Set


class StartQueue:
    """At most `limit` starts at a time. Owners take turns; each owner's starts keep their order.

    A start is any object that can be hashed. Every start that entered must leave, whatever
    happens. Leaving twice, or without having entered, does no harm.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._starting: Set[Hashable] = set()
        # Owners in the order of their turns. While one waits, all slots are taken.
        self._waiting: Dict[str, Dict[Hashable, asyncio.Future[None]]] = {}

    def __repr__(self) -> str:
        waiting = {owner: len(starts) for owner, starts in self._waiting.items()}
        return "<StartQueue {}/{} waiting={}>".format(len(self._starting), self.limit, waiting)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    async def enter(self, owner: str, start: Hashable, on_wait: Callable[[], None]) -> bool:
        """Wait for a slot; `on_wait` is called at once when none is free.

        Returns True when `start` has a slot, which it holds until :meth:`leave`. Returns False
        when :meth:`leave` was called for it meanwhile.
        """
        if len(self._starting) < self.limit:
            self._starting.add(start)
            return True
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, {})[start] = turn
        try:
            on_wait()
            await turn
        except BaseException:
            self.leave(start)
            raise
        # `start` may have got a slot and left again before this coroutine ran.
        return start in self._starting

    def leave(self, start: Hashable) -> None:
        """`start` is over or cancelled: its slot or its place goes to the next one."""
        self._starting.discard(start)
        for owner, starts in list(self._waiting.items()):
            if start in starts:
                _wake(starts.pop(start))
                if not starts:
                    del self._waiting[owner]
        while self._waiting and len(self._starting) < self.limit:
            self._admit_next()

    def _admit_next(self) -> None:
        owner = next(iter(self._waiting))
        starts = self._waiting.pop(owner)
        start = next(iter(starts))
        turn = starts.pop(start)
        if starts:
            self._waiting[owner] = starts  # its next turn comes after everybody else's
        self._starting.add(start)
        _wake(turn)


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # it is done when its waiter was cancelled; the waiter leaves by itself
        turn.set_result(None)
