"""A TCP port of this machine that leads to a port of a host. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from ..agent.ports.listeners import user_of
from ..errors import ConfigurationError, RemoteProvisionerError
from ..hosts.host import Host
from .port_link import LocalEnd
from .port_sockets import Joining

log = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"


class LocalPort:
    """Passes on connections of this user's programs, and refuses those of other users."""

    def __init__(
        self,
        host: Callable[[], Host],
        kernel_id: str,
        port: int,
        on_error: Callable[[RemoteProvisionerError], None],
    ) -> None:
        """`on_error` is called when the port on the host cannot be opened for a client."""
        self._joining = Joining(host, kernel_id, port, self._refuse)
        self._on_error = on_error
        self._server: asyncio.Server | None = None

    async def listen(self, local: int) -> int:
        """Listen on this port, or on any free one if `local` is 0. Return its number.

        Raises ConfigurationError.
        """

        def accepted() -> LocalEnd:
            return self._joining.accepted(_is_ours)

        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(accepted, _ADDRESS, local)
        except OSError as error:
            text = f"cannot listen on {_ADDRESS}:{local}: {os.strerror(error.errno or 0)}"
            raise ConfigurationError(f"{text}\nName another local port: PORT:LOCAL") from None
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._joining.close()

    def _refuse(self, near: LocalEnd, error: RemoteProvisionerError) -> None:
        near.abort()
        self._on_error(error)


def _is_ours(transport: Any) -> bool:
    """Whether a program of our own user has connected. True if the system does not tell."""
    here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    try:
        user = user_of(here, there)
    except OSError:  # not Linux
        return True
    if user != os.getuid():
        log.warning("refused a program of user %d at %s:%d", user, *here)
    return user == os.getuid()
