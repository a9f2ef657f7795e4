"""Follow one submission to an engine until its launcher runs. In the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets

from ..errors import HostError, KernelStartError, LaunchTimeoutError
from ..events import Phase
from ..kernels.pausable_timeout import PausableTimeout, TimeoutExceeded
from ..kernels.starts import starts
from ..options.launch_request import LaunchRequest
from .base import Engine, Launch, Node

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.3


class Submission:
    """The request of a node for one kernel. Any thread may read `text` and `id`."""

    def __init__(self, engine: Engine, request: LaunchRequest) -> None:
        kernel = re.sub(r"[^a-z0-9]", "", request.kernel_id.lower())[:8]
        tag, secret = f"kernel-{kernel}-{secrets.token_hex(8)}", secrets.token_urlsafe(32)
        self.engine = engine
        self.launch = Launch(request, tag, secret)
        #: What it waits for.
        self.text = ""
        #: The engine's name for it.
        self.id = ""

    async def run(self) -> tuple[Node, float]:
        """The node, when its launcher can be reached, and the seconds that are left for the kernel.

        Raises KernelStartError, LaunchTimeoutError, HostError; the submission is cancelled then,
        and when this is cancelled.
        """
        loop = asyncio.get_running_loop()
        began, seconds = loop.time(), self.launch.request.timeout
        try:
            node = await PausableTimeout(seconds).run(self._run())
        except TimeoutExceeded:
            raise LaunchTimeoutError(
                f"{self.engine.name} gave no node within {seconds:g} s (launch_timeout): "
                f"{self.text or 'it was not submitted yet'}; it was cancelled"
            ) from None
        finally:
            self.text = ""
        return node, max(1.0, seconds - (loop.time() - began))

    async def _run(self) -> Node:
        await self.engine.check()
        arrival = await self.engine.submit(self.launch)
        try:
            while not arrival.done():
                await self._follow(arrival)
                await asyncio.wait([arrival], timeout=_POLL_SECONDS)
            return arrival.result()
        except BaseException:
            await asyncio.shield(self._abandon(arrival))
            raise

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
        if progress.over:
            raise KernelStartError(await self.engine.diagnose(self.launch.tag))
        if progress.text and progress.text != self.text:
            self.text = progress.text
            kernel_id = self.launch.request.kernel_id
            starts().note(kernel_id, Phase.WAITING, text=self.text)
            log.info("kernel %s: %s", kernel_id, self.text)

    async def _abandon(self, arrival: asyncio.Future[Node]) -> None:
        """End the submitting program and the submission."""
        arrival.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await arrival
        await self.engine.cancel(self.launch.tag)
