"""Show a text in a cell that a kernel runs."""

from __future__ import annotations

import logging

from ..errors import RemoteProvisionerError
from ..protocol.agent_requests import Announce
from .remote_kernel import RemoteKernel

log = logging.getLogger(__name__)


async def announce(kernel: RemoteKernel, text: str, now: bool = False) -> None:
    """Ask the agent to show `text`; with `now`, in the cell that runs if one does. Failures are
    only logged. In the I/O thread.
    """
    try:
        await kernel.host.request(Announce(kernel_id=kernel.kernel_id, text=text, now=now))
    except RemoteProvisionerError as error:
        log.warning("kernel %s: the message %r was not shown: %s", kernel.kernel_id, text, error)
