"""When an engine ends a kernel's node. We ask the engine regularly and tell the kernel's users."""

from __future__ import annotations

import asyncio
import logging
import time

from ..errors import RemoteProvisionerError
from ..kernels.announcement import announce
from ..kernels.remote_kernel import RemoteKernel
from .base import Engine

log = logging.getLogger(__name__)

#: Seconds before the end at which users are told.
MARKS = (600.0, 120.0)
#: How often we ask an engine. A time limit hardly ever changes.
_ASK_SECONDS = 300.0
_AGAIN_SECONDS = 60.0
#: Engines count whole seconds.
_SLACK_SECONDS = 1.5


class Deadline:
    """The end of one kernel's node. Any thread may read `seconds_left`."""

    def __init__(self, kernel: RemoteKernel, engine: Engine, tag: str) -> None:
        self._kernel = kernel
        self._engine = engine
        self._tag = tag
        self._end: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """As the engine last said. None: the engine does not end the node, or did not say when."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    async def watch(self) -> None:
        """Ask as long as this process has the kernel, and announce the end at each of MARKS.

        An operator may give the node more time. Runs in the I/O thread.
        """
        marks = list(MARKS)
        while not self._kernel.client_sockets.closed:
            pause = _ASK_SECONDS
            try:
                left = await self._engine.seconds_left(self._tag)
            except RemoteProvisionerError as error:
                log.info(
                    "kernel %s: cannot ask for its time limit: %s", self._kernel.kernel_id, error
                )
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            self._end = None if left is None else time.monotonic() + left
            if left is not None:
                later = [mark for mark in marks if mark < left - _SLACK_SECONDS]
                if len(later) < len(marks):
                    await self._announce(left)
                marks = later
                pause = min(pause, max(left - marks[0], 1.0)) if marks else pause
            await asyncio.sleep(pause)

    async def _announce(self, left: float) -> None:
        text = end_text(self._engine.name, left)
        log.info("kernel %s: %s", self._kernel.kernel_id, text)
        await announce(self._kernel, text, now=True)


def end_text(name: str, left: float) -> str:
    """The announcement, `left` seconds before the end."""
    count, unit = (round(left / 60), "minute") if left >= 90 else (round(left), "second")
    plural = "" if count == 1 else "s"
    return f"{name} ends this kernel in {count} {unit}{plural} (its time limit). Save your work."
