"""Sockets on this machine that lead to ports of kernels' hosts. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from typing import Any

from ..errors import RemoteProvisionerError, UnreachableError
from ..hosts.host import Host
from ..io_thread import io_thread
from ..kernels.remote_kernel import RemoteKernel
from ..kernels.socket_directory import SocketDirectory
from .port_link import LocalEnd, join

#: Called if a client's port could not be opened, with the client and the reason.
Refuse = Callable[[LocalEnd, RemoteProvisionerError], None]

_REFUSED = (
    "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: {length}\r\nConnection: close\r\n\r\n"
)
_REFUSED_SECONDS = 5.0
_REASONS = {502: "Bad Gateway", 503: "Service Unavailable"}


def refuse_http(near: LocalEnd, error: RemoteProvisionerError) -> None:
    """Answer a client that speaks HTTP with the reason."""
    if near.transport is not None:
        body = f"{error}\n".encode()
        status = error.status if error.status in _REASONS else 502
        head = _REFUSED.format(status=status, reason=_REASONS[status], length=len(body))
        near.transport.write(head.encode() + body)
        near.transport.write_eof()
        # Read the rest of the request: otherwise a reset would overtake the answer.
        near.transport.resume_reading()
        asyncio.get_running_loop().call_later(_REFUSED_SECONDS, near.abort)


class Joining:
    """The clients of one port. `host` returns the kernel's present host: kernels may move."""

    def __init__(self, host: Callable[[], Host], kernel_id: str, port: int, refuse: Refuse) -> None:
        self._host, self._kernel_id, self._port, self._refuse = host, kernel_id, port, refuse
        self._clients: set[asyncio.Task[None]] = set()
        self._ends: set[LocalEnd] = set()

    def accepted(self, admit: Callable[[Any], bool] = lambda transport: True) -> LocalEnd:
        """The protocol of a client that connects. `admit` says whether it may."""
        end = _Client(self, admit)
        self._ends.add(end)
        return end

    def connected(self, end: LocalEnd) -> None:
        task = asyncio.ensure_future(self._join(end))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def left(self, end: LocalEnd) -> None:
        self._ends.discard(end)

    async def _join(self, end: LocalEnd) -> None:
        """Join a client to the port, until one of them or the host's connection is gone."""
        host = self._host()
        begun: list[asyncio.Future[Any]] = []
        try:
            link = await host.link()
            over: asyncio.Future[Any] = asyncio.ensure_future(link.transport.wait_closed())
            begun.append(over)
            joined = join(end, host, self._kernel_id, self._port)
            joining: asyncio.Future[Any] = asyncio.ensure_future(joined)
            begun.append(joining)
            await asyncio.wait([over, joining], return_when=asyncio.FIRST_COMPLETED)
            if not joining.done():
                raise UnreachableError("the connection was lost", host=host.name)
            joining.result()
            await asyncio.wait([over, end.gone], return_when=asyncio.FIRST_COMPLETED)
            end.abort()
        except RemoteProvisionerError as error:
            self._refuse(end, error)
        except BaseException:
            end.abort()
            raise
        finally:
            for task in begun:
                task.cancel()

    def close(self) -> None:
        for task in self._clients:
            task.cancel()
        for end in list(self._ends):
            end.abort()


class _Client(LocalEnd):
    def __init__(self, joining: Joining, admit: Callable[[Any], bool]) -> None:
        super().__init__()
        self._joining, self._admit = joining, admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._admit(transport):
            self._joining.connected(self)
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._joining.left(self)


class PortSockets:
    """One unix socket for each port that a browser has opened."""

    def __init__(self) -> None:
        self._directory: SocketDirectory | None = None
        self._open: dict[tuple[RemoteKernel, int], tuple[str, asyncio.Server, Joining]] = {}

    async def path(self, kernel: RemoteKernel, port: int) -> str:
        """The socket of this port. Raises OSError."""
        self._close_old()
        key = (kernel, port)
        if self._directory is not None and not self._directory.is_there():
            self._close_all()  # a logout has removed it
        if key not in self._open:
            if self._directory is None:
                self._directory = SocketDirectory()
            elif not self._directory.is_there():
                self._directory.renew()
            path = str(self._directory.path / secrets.token_hex(4))
            joining = Joining(lambda: kernel.host, kernel.kernel_id, port, refuse_http)
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(joining.accepted, path)
            self._open[key] = (path, server, joining)
        return self._open[key][0]

    def _close_old(self) -> None:
        for key in [key for key in self._open if key[0].client_sockets.closed]:
            self._close(*self._open.pop(key))

    @staticmethod
    def _close(path: str, server: asyncio.Server, joining: Joining) -> None:
        server.close()
        joining.close()
        with contextlib.suppress(OSError):
            os.unlink(path)

    def _close_all(self) -> None:
        for found in self._open.values():
            self._close(*found)
        self._open.clear()

    async def close(self) -> None:
        self._close_all()
        if self._directory is not None:
            self._directory.remove()


async def port_sockets() -> PortSockets:
    """This process's sockets. Call it in the I/O thread, which closes them when it ends."""
    return io_thread().own(PortSockets)
