"""Follow one submission to an engine until its launcher runs. In the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from typing import Any

from ..errors import HostError, KernelStartError, LaunchTimeoutError, RemoteProvisionerError
from ..events import Phase
from ..kernels.start.pausable_timeout import PausableTimeout, TimeoutExceeded
from ..kernels.start.starts import starts
from ..options.launch_request import LaunchRequest
from .base import Engine, Launch, Node

log = logging.getLogger(__name__)


class Submissions:
    """The submissions in progress. The I/O thread ends them before the connections they need."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, submission: Submission) -> tuple[Node, float]:
        """See `Submission.run`."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await submission.run()
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """Cancel all, and wait until nothing is left of them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class Submission:
    """The request of a node for one kernel. Any thread may read `text` and `id`."""

    def __init__(self, engine: Engine, request: LaunchRequest) -> None:
        kernel = re.sub(r"[^a-z0-9]", "", request.kernel_id.lower())[:8]
        tag, secret = f"kernel-{kernel}-{secrets.token_hex(8)}", secrets.token_urlsafe(32)
        self.engine = engine
        self.launch = Launch(request, tag, secret)
        self._timeout = PausableTimeout(request.timeout)
        #: The limit for the engine's queue, while it waits there.
        self._queue_timer: asyncio.TimerHandle | None = None
        self._queue_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began = 0.0
        self._task: asyncio.Task[Any] | None = None
        #: What it waits for.
        self.text = ""
        #: The engine's name for it.
        self.id = ""

    async def run(self) -> tuple[Node, float]:
        """The node, when its launcher can be reached, and the seconds that are left for the kernel.

        Raises KernelStartError, LaunchTimeoutError, HostError; the submission is cancelled then,
        and when this is cancelled.
        """
        self._task, loop = asyncio.current_task(), asyncio.get_running_loop()
        await self.engine.prepare()
        self._began, seconds = loop.time(), self.launch.request.timeout
        try:
            node = await self._timeout.run(self._run())
        except TimeoutExceeded:
            raise self._late(f"{seconds:g} s (launch_timeout)") from None
        finally:
            self._leave_queue()
            self.text = ""
        return node, max(1.0, seconds - (loop.time() - self._began))

    async def over(self) -> None:
        """Return when a cancelled `run` has left nothing. Its caller goes on before that."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    def _late(self, limit: str) -> LaunchTimeoutError:
        waited_for = self.text or "it did not have the request yet"
        name = self.engine.name
        return LaunchTimeoutError(f"{name} gave no node within {limit}: {waited_for}")

    async def _run(self) -> Node:
        await self.engine.check()
        arrival = await self.engine.submit(self.launch)
        try:
            while not arrival.done():
                await self._follow(arrival)
                await self._until_news(arrival)
            return arrival.result()
        except BaseException:
            await asyncio.shield(self._abandon(arrival))
            raise

    async def _until_news(self, arrival: asyncio.Future[Node]) -> None:
        """Raises LaunchTimeoutError if it waits in the engine's queue for too long."""
        news = asyncio.ensure_future(self.engine.changed(self.launch.tag))
        try:
            over: list[asyncio.Future[Any]] = [arrival, news, self._queue_over]
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._queue_over.done() and not arrival.done():
            engine = self.engine
            raise self._late(f"{engine.queue_seconds:g} s in its queue ({engine.queue_option})")

    def _enter_queue(self) -> None:
        seconds = self.engine.queue_seconds
        if seconds is not None and self._queue_timer is None:
            self._timeout.suspend()
            self._queue_timer = asyncio.get_running_loop().call_later(seconds, self._end_queue)

    def _end_queue(self) -> None:
        if not self._queue_over.done():
            self._queue_over.set_result(None)

    def _leave_queue(self) -> None:
        """The time in the queue is not the kernel's."""
        if self._queue_timer is not None:
            self._queue_timer.cancel()
            self._queue_timer = None
            self._began = asyncio.get_running_loop().time()
            self._timeout.resume()

    async def _follow(self, arrival: asyncio.Future[Node]) -> None:
        """Update the state. Raises KernelStartError if the submission has ended."""
        try:
            progress = await self.engine.follow(self.launch.tag)
        except HostError:
            return  # the engine is busy; the submitter or the time limit will report it
        if progress is None:
            return
        self.id = progress.id or self.id
        if arrival.done():
            return
        if progress.queued:
            self._enter_queue()
        else:
            self._leave_queue()
        if progress.over:
            raise KernelStartError(await self.engine.diagnose(self.launch.tag))
        if progress.text and progress.text != self.text:
            self.text = progress.text
            kernel_id = self.launch.request.kernel_id
            starts().note(kernel_id, Phase.WAITING, text=self.text)
            log.info("kernel %s: %s", kernel_id, self.text)

    async def _abandon(self, arrival: asyncio.Future[Node]) -> None:
        """End the submitting program and the submission. The caller has an error already."""
        arrival.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await arrival
        try:
            await self.engine.cancel(self.launch.tag)
        except RemoteProvisionerError as error:
            log.warning("%s: %s did not cancel it: %s", self.launch.tag, self.engine.name, error)
