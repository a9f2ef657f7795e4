"""End a kernel that an earlier server was stopping or starting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from ...errors import KernelLostError


async def finish(provisioner: Any, info: Mapping[str, Any], seconds: float) -> None:
    """End the kernel that `info` describes as soon as its host can be reached.

    The kernel has `seconds` to end by itself. Sets `provisioner.left_behind` if the host could not
    be reached within the grace.
    """
    try:
        await provisioner.prepare_adoption(info)
    except KernelLostError:
        return  # its start is cancelled
    try:
        with contextlib.suppress(KernelLostError, asyncio.TimeoutError, TimeoutError):
            await provisioner.adopt_when_reachable()
            await asyncio.wait_for(provisioner.wait(), seconds)
    finally:
        await provisioner.cleanup()
