"""How a host is reached: one interface, an implementation by SSH and one on this machine."""

from ..address import HostAddress
from .base import Completed, Endpoint, Transport
from .local import LocalTransport
from .ssh import connect_ssh


async def connect(address: HostAddress) -> Transport:
    """Reach a host. Raises HostError: what is wrong, and what to do."""
    return LocalTransport() if address.is_local else await connect_ssh(address)


__all__ = ["Completed", "Endpoint", "Transport", "connect"]
