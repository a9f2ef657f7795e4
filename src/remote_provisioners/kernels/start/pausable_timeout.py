"""A time limit that can be suspended, for example while a start waits in a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class TimeoutExceeded(Exception):
    """The time is over, and the coroutine was cancelled."""


class PausableTimeout:
    """A limit in seconds for a coroutine."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._exceeded = False

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await `coroutine` within the limit. Raises TimeoutExceeded and its errors."""
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
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Start the clock again, with the full time."""
        if self._timer is None and self._task is not None and not self._task.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._exceed)

    def _exceed(self) -> None:
        self._timer = None
        self._exceeded = True
        if self._task is not None:
            self._task.cancel()
