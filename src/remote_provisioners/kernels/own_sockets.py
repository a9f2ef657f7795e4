"""The sockets of this process: for the channels of kernels, and for launchers.

They are in one directory. Somebody may remove that, as a logout does: then they are opened again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

import zmq

from .client_sockets import ClientSockets, Opener
from .socket_directory import SocketDirectory
from .start.launcher_reports import LauncherReports

log = logging.getLogger(__name__)

#: How often to check that the directory exists.
_LOOK_SECONDS = 1.0


class OwnSockets:
    """Keeps all sockets of this process open. Lives in the I/O thread.

    `of_kernels` returns those of the present kernels.
    """

    def __init__(self, of_kernels: Callable[[], Iterable[ClientSockets]]) -> None:
        """Raises OSError, ZMQError."""
        self._of_kernels = of_kernels
        self._directory = SocketDirectory()
        try:
            self.reports = LauncherReports(self._directory.path)
        except BaseException:
            self._directory.remove()
            raise
        self._looking = asyncio.ensure_future(self._keep_open())

    @property
    def path(self) -> Path:
        """The directory of the sockets."""
        return self._directory.path

    def of_kernel(self, kernel_id: str, open_link: Opener, keep_seconds: float) -> ClientSockets:
        """The sockets of a new kernel, which are not open yet."""
        name = secrets.token_hex(4)
        return ClientSockets(self.path, name, kernel_id, open_link, keep_seconds)

    async def open(self) -> None:
        """Open all of them again if their directory was removed. Raises OSError, ZMQError."""
        if self._directory.is_there():
            return
        log.warning("%s was removed; opening its sockets again", self.path)
        self._directory.renew()
        self.reports.listen(self.path)
        for sockets in self._of_kernels():
            await sockets.move(self.path)

    async def close(self) -> None:
        """Close the launchers' socket and remove the directory. Kernels' sockets are closed."""
        self._looking.cancel()
        await self.reports.close()
        self._directory.remove()

    async def _keep_open(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.open()
            except (OSError, zmq.ZMQError) as error:
                log.warning("cannot open the sockets of kernels on this machine: %s", error)
