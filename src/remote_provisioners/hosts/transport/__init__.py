"""How a host is reached: one interface; by SSH, on this machine, by a launcher on a node."""

from ...placement.host_address import HostAddress, NodeAddress
from .base import Completed, Endpoint, Transport
from .local import LocalTransport


async def connect(address: HostAddress) -> Transport:
    """Reach a host. Raises HostError: what is wrong, and what to do."""
    if address.is_local:
        return LocalTransport()
    if isinstance(address, NodeAddress):
        from .node import connect_node  # noqa: PLC0415

        return await connect_node(address)
    # Takes 0.2 s, of the I/O thread: jupyter_client imports us on its application's event loop.
    from .ssh import connect_ssh  # noqa: PLC0415

    return await connect_ssh(address)


__all__ = ["Completed", "Endpoint", "Transport", "connect"]
