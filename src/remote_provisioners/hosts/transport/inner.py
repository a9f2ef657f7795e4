"""A node by a program of another host that leads to it: a pipe within the connection to that host.

So a login node, with whatever its login takes, is connected once for all jobs of a cluster.
"""

from __future__ import annotations

from ...placement.host_address import InnerAddress
from .base import Transport
from .pipe.start import Introduction, PipeStart
from .pipe.transport import PipeTransport

#: The program may have to find the node first.
_OPEN_SECONDS = 20.0


async def open_inner(through: Transport, address: InnerAddress, python: str) -> PipeTransport:
    """Raises NotOpened, HostError. Leaves nothing when it fails or is cancelled."""
    introduction = Introduction("." + python[1:] if python.startswith("~/") else python)
    start = PipeStart(introduction)
    try:
        await through.begin([*address.words, *introduction.argv], start)
    except BaseException:
        start.abort()
        raise
    return await start.within(_OPEN_SECONDS)
