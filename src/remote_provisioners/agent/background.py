"""Background tasks: each is kept until it ends, and its failure is never silent.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any, Callable, Coroutine, Set

from .log import say


def nothing() -> None:
    """Stands where nobody depends on the task."""


class Background:
    """The tasks of one object."""

    def __init__(self) -> None:
        self._tasks: Set[asyncio.Task[Any]] = set()

    def run(
        self,
        coroutine: Coroutine[Any, Any, Any],
        what: str,
        on_failure: Callable[[], None] = nothing,
    ) -> asyncio.Task[Any]:
        """Run it. If it raises, the log says so and `on_failure` ends what depended on it."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                report_failure(what, error)
                on_failure()

        task.add_done_callback(ended)
        return task

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def report_failure(what: str, error: BaseException) -> None:
    """Write to the agent's log that something of ours failed, with where it happened."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    say("{} failed:\n{}".format(what, "".join(lines).rstrip()))
