"""Tell a kernel's users before the engine ends its node. In the I/O thread."""

from __future__ import annotations

import asyncio
import logging

from ..errors import HostError
from ..kernels.announcement import announce
from ..kernels.remote_kernel import RemoteKernel
from .base import Engine

log = logging.getLogger(__name__)

#: Seconds before the end at which users are told.
MARKS = (600.0, 120.0)
_AGAIN_SECONDS = 60.0
#: Engines count whole seconds.
_SLACK_SECONDS = 1.5


async def tell_before_end(kernel: RemoteKernel, engine: Engine, tag: str) -> None:
    """Announce the end of a kernel's node in its notebook, at each of MARKS.

    The engine is asked again each time, because an operator may have given the node more time.
    """
    marks = list(MARKS)
    while marks:
        try:
            left = await engine.seconds_left(tag)
        except HostError as error:
            log.info("kernel %s: cannot ask for its end: %s", kernel.kernel_id, error)
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        if left is None:
            return
        later = [mark for mark in marks if mark < left - _SLACK_SECONDS]
        if len(later) < len(marks):
            text = end_text(engine.name, left)
            log.info("kernel %s: %s", kernel.kernel_id, text)
            await announce(kernel, text, now=True)
        marks = later
        if marks:
            await asyncio.sleep(max(left - marks[0], 1.0))


def end_text(name: str, left: float) -> str:
    """The announcement, `left` seconds before the end."""
    count, unit = (round(left / 60), "minute") if left >= 90 else (round(left), "second")
    plural = "" if count == 1 else "s"
    return f"{name} ends this kernel in {count} {unit}{plural} (its time limit). Save your work."
