"""A time limit that stands still while nobody is to blame, as in a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class TimeoutExceeded(Exception):
    """The time is over; what was running has been cancelled."""


class PausableTimeout:
    """Seconds that a coroutine may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._exceeded = False

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await `coroutine` within the limit. Raises LimitExceeded, and what it raises."""
        task: asyncio.Task[T] = asyncio.ensure_future(coroutine)
        self._task = task
        self.resume()
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            if self._exceeded:
                raise TimeoutExceeded from None
            raise
        finally:
            self.suspend()

    def suspend(self) -> None:
        """Let the time stand still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Begin anew, with the whole time."""
        if self._timer is None and self._task is not None and not self._task.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._exceed)

    def _exceed(self) -> None:
        self._timer = None
        self._exceeded = True
        if self._task is not None:
            self._task.cancel()
