"""A node by a program of another host that leads to it: a pipe within the connection to that host.

So a login node, with whatever its login takes, is connected once for all jobs of a cluster.
"""

from __future__ import annotations

from ...placement.host_address import InnerAddress
from ...placement.way_in import COMMAND, WayIn
from .base import Transport
from .pipe.errors import why_not_opened
from .pipe.start import Introduction, NotOpened, PipeStart
from .pipe.transport import PipeTransport

#: The program may have to find the node first.
_OPEN_SECONDS = 20.0


async def connect_inner(address: InnerAddress, python: str) -> Transport:
    """Run the program, which starts Python on the node. Raises HostError."""
    from ..gateways import gateways  # noqa: PLC0415 # they connect as we do

    through = await (await gateways()).open(address.through)
    try:
        return await open_inner(through, address, python)
    except NotOpened as failed:
        way = WayIn(COMMAND, address.words)
        raise why_not_opened(failed, way, python).at(str(address)) from None


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
