"""The starts in progress: their phases, and a way to cancel them.

Lives in the I/O thread, except `run`, which the caller awaits on its own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, ParamSpec, TypeVar

from ...errors import StartCancelledError
from ...events import Phase, StartProgress, events
from ...io_thread import Call, here, in_io_thread, io_thread

P = ParamSpec("P")
T = TypeVar("T")

#: How long a shutdown waits for a start that it gives up.
_GIVE_UP_SECONDS = 10.0


@dataclass
class _Start:
    progress: StartProgress
    began: float
    cancel: Callable[[], object]
    cancelled: bool = False


class Starts:
    """Every start of this process, from its request to its end."""

    def __init__(self) -> None:
        self._starts: dict[str, _Start] = {}

    async def run(
        self,
        kernel_id: str,
        starting: Coroutine[Any, Any, T],
        kind: str = "start",
        notebook: str = "",
        io: Call = here,
    ) -> T:
        """Await `starting` and report its progress through `io`.

        Raises StartCancelledError and the errors of `starting`.
        """
        loop = asyncio.get_running_loop()
        task: asyncio.Task[T] = asyncio.ensure_future(starting)
        progress = StartProgress(kernel_id, Phase.PLACING, kind, notebook)
        start = _Start(progress, time.monotonic(), lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await io(self._begin(start))
            result: T = await task
        except asyncio.CancelledError:
            await _ended(task)
            await io(self._over(start, Phase.CANCELLED))
            if start.cancelled:
                raise StartCancelledError("the start was cancelled by its user") from None
            raise
        except BaseException as error:
            await _ended(task)
            await io(self._over(start, Phase.FAILED, error))
            raise
        await io(self._over(start, Phase.READY))
        return result

    async def _begin(self, start: _Start) -> None:
        self._starts[start.progress.kernel_id] = start
        events.tell(start.progress)

    def note(self, kernel_id: str, phase: Phase, **known: Any) -> None:
        """The start of this kernel has entered a phase. `known`: fields of StartProgress."""
        start = self._starts.get(kernel_id)
        if start is None:
            return
        known.setdefault("host", start.progress.host)
        self._tell(
            start, replace(start.progress, phase=phase, **{"text": "", "ahead": None, **known})
        )

    def cancel(self, kernel_id: str) -> bool:
        """Cancel the start. Returns False if there is none."""
        start = self._starts.get(kernel_id)
        if start is None:
            return False
        start.cancelled = True
        start.cancel()
        return True

    @property
    def under_way(self) -> list[StartProgress]:
        now = time.monotonic()
        return [replace(s.progress, seconds=now - s.began) for s in self._starts.values()]

    async def close(self) -> None:
        """Do nothing: the tasks end with the thread."""

    def _tell(self, start: _Start, progress: StartProgress) -> None:
        start.progress = replace(progress, seconds=time.monotonic() - start.began)
        events.tell(start.progress)

    async def _over(self, start: _Start, phase: Phase, error: BaseException | None = None) -> None:
        kernel_id = start.progress.kernel_id
        if self._starts.get(kernel_id) is start:
            del self._starts[kernel_id]
        host = getattr(error, "host", "") or start.progress.host
        self._tell(
            start, replace(start.progress, phase=phase, host=host, text="", ahead=None, error=error)
        )


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel the start, and wait until it has left nothing."""
    task.cancel()
    await asyncio.wait([task])


def starts() -> Starts:
    """The starts of this process. Call this in the I/O thread."""
    return io_thread().own(Starts)


class OwnStart:
    """The start or restart that one provisioner has in progress, if any. A shutdown gives it up."""

    def __init__(self, given_up: Callable[[], None] = lambda: None) -> None:
        """Calls `given_up` when a shutdown has given up the start and nothing of it is left."""
        self._given_up = given_up
        self._over: Future[None] | None = None
        self._cancel: Callable[[], object] = lambda: None

    @property
    def in_progress(self) -> bool:
        return self._over is not None

    async def run(self, starting: Coroutine[Any, Any, T]) -> T:
        """Await `starting`. Raises StartCancelledError if it is given up."""
        loop, over, given_up = asyncio.get_running_loop(), Future[None](), Event()
        task: asyncio.Task[T] = asyncio.ensure_future(starting)

        def cancel() -> None:
            given_up.set()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        self._over, self._cancel = over, cancel
        try:
            return await task
        except asyncio.CancelledError:
            if given_up.is_set():
                raise StartCancelledError("the kernel was shut down during its start") from None
            raise
        finally:
            if self._over is over:
                self._over = None
            over.set_result(None)

    async def give_up(self) -> None:
        """Cancel it, and wait until nothing is left of it. Any loop and thread may call this."""
        over = self._over
        if over is None:
            return
        self._cancel()
        # The loop of the start may have ended.
        await asyncio.wait([asyncio.wrap_future(over)], timeout=_GIVE_UP_SECONDS)
        self._given_up()


def given_up_by_shutdown(
    method: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a method that starts a kernel. Its object must have an attribute `own_start`."""

    @functools.wraps(method)
    async def started(*args: P.args, **kwargs: P.kwargs) -> T:
        own: OwnStart = getattr(args[0], "own_start")  # noqa: B009 (of any provisioner)
        return await own.run(method(*args, **kwargs))

    return started


async def run_start(
    kernel_id: str, starting: Coroutine[Any, Any, T], kind: str, notebook: str
) -> T:
    """Await `starting` on this loop, report its progress, and cancel it on request."""

    async def of_this_process() -> Starts:
        return starts()

    try:
        known = await in_io_thread(of_this_process())
    except BaseException:
        starting.close()
        raise
    return await known.run(kernel_id, starting, kind, notebook, in_io_thread)
