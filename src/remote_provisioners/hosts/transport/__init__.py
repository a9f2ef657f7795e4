"""Ways in to a host: one interface, and a module for each way."""

from __future__ import annotations

import asyncio
import importlib
import logging
from dataclasses import replace

from ...placement.host_address import HostAddress
from ...placement.way_in import COMMAND, OPENSSH
from .base import Completed, Endpoint, Transport
from .local import LocalTransport

log = logging.getLogger(__name__)

_PACKAGE = __name__.partition(".")[0]


async def connect(address: HostAddress, python: str = "") -> Transport:
    """Connect to a host. Raises a HostError that says what is wrong and what to do.

    `python`: the interpreter on the host; a pipe needs one.
    """
    if address.is_local:
        return LocalTransport()
    python = python or "python3"
    if address.connector:
        module, _, name = address.connector.partition(":")
        connector = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        transport: Transport = await connector(address, python)
        return transport
    if address.is_here or address.way.kind == COMMAND:
        from .command import connect_by_command  # noqa: PLC0415

        return await connect_by_command(address, python)
    if address.way.kind == OPENSSH:
        from .by_openssh.transport import connect_by_openssh  # noqa: PLC0415

        return await connect_by_openssh(address, python)
    # The import takes 0.2 s. No loop may wait that long: neither jupyter_client's nor this one.
    await asyncio.to_thread(importlib.import_module, ".by_asyncssh.transport", __name__)
    from .by_asyncssh.login import OnlyOpenSSH  # noqa: PLC0415
    from .by_asyncssh.transport import connect_ssh  # noqa: PLC0415

    try:
        return await connect_ssh(address, python)
    except OnlyOpenSSH as only:
        log.info("host %s: the ssh program connects (%s)", address.label, only)
        asked = only.asked
    from .by_openssh.transport import connect_by_openssh  # noqa: PLC0415

    # Only with `connect = "openssh"` may ~/.ssh/config turn off the check of host keys.
    way = replace(address.way, kind=OPENSSH, strict_host_keys=True)
    by_openssh = replace(address, way=way)
    return await connect_by_openssh(by_openssh, python, asked)


__all__ = ["Completed", "Endpoint", "Transport", "connect"]
