"""The starts that are under way: how far each is, and a way to give one up. In the I/O thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..errors import StartCancelledError
from ..events import Phase, StartProgress, events
from ..io_thread import io_thread

T = TypeVar("T")


@dataclass
class _Start:
    progress: StartProgress
    began: float
    task: asyncio.Task[Any]
    cancelled: bool = False


class Starts:
    """Every start of this process between its request and its end."""

    def __init__(self) -> None:
        self._starts: dict[str, _Start] = {}

    async def run(
        self,
        kernel_id: str,
        starting: Coroutine[Any, Any, T],
        kind: str = "start",
        notebook: str = "",
    ) -> T:
        """Await `starting`, and tell how it goes. Raises StartCancelledError, and what it does."""
        task: asyncio.Task[Any] = asyncio.ensure_future(starting)
        progress = StartProgress(kernel_id, Phase.PLACING, kind, notebook)
        start = self._starts[kernel_id] = _Start(progress, time.monotonic(), task)
        events.tell(progress)
        try:
            result: T = await task
        except asyncio.CancelledError:
            self._over(start, Phase.CANCELLED)
            if start.cancelled:
                raise StartCancelledError("the start was cancelled by its user") from None
            task.cancel()
            raise
        except BaseException as error:
            self._over(start, Phase.FAILED, error)
            raise
        self._over(start, Phase.READY)
        return result

    def note(self, kernel_id: str, phase: Phase, **known: Any) -> None:
        """The start of this kernel has come to a phase. `known`: fields of StartProgress."""
        start = self._starts.get(kernel_id)
        if start is None:
            return
        known.setdefault("host", start.progress.host)
        self._tell(
            start, replace(start.progress, phase=phase, **{"text": "", "ahead": None, **known})
        )

    def cancel(self, kernel_id: str) -> bool:
        """Give the start up; False where there is none."""
        start = self._starts.get(kernel_id)
        if start is None:
            return False
        start.cancelled = True
        start.task.cancel()
        return True

    @property
    def under_way(self) -> list[StartProgress]:
        now = time.monotonic()
        return [replace(s.progress, seconds=now - s.began) for s in self._starts.values()]

    async def close(self) -> None:
        """Nothing is left to do: the tasks end with the thread."""

    def _tell(self, start: _Start, progress: StartProgress) -> None:
        start.progress = replace(progress, seconds=time.monotonic() - start.began)
        events.tell(start.progress)

    def _over(self, start: _Start, phase: Phase, error: BaseException | None = None) -> None:
        kernel_id = start.progress.kernel_id
        if self._starts.get(kernel_id) is start:
            del self._starts[kernel_id]
        host = getattr(error, "host", "") or start.progress.host
        self._tell(
            start, replace(start.progress, phase=phase, host=host, text="", ahead=None, error=error)
        )


def starts() -> Starts:
    """This process's. To be called in the I/O thread."""
    return io_thread().own(Starts)
