"""Connect a client to a port of a host, over the open connection. Lives in the I/O thread."""

from __future__ import annotations

import asyncio

from ..errors import ForwardingError, RemoteProvisionerError, UnreachableError
from ..hosts.host import Host
from ..protocol.joined import End
from ..protocol.opening import split
from ..protocol.ports import PORT_SOCKET, OpenPort, PortOpened
from ..protocol.structure import FieldError
from ..protocol.wire import WireError, encode

_NO_PORTS = "the kernel's agent opens no ports: its version is too old"
_RESTART = "Restart the kernel. Then its ports can be reached."


class PortError(RemoteProvisionerError):
    """The agent refuses a port: no program listens there, or another user's program does."""

    status = 502


class LocalEnd(End):
    """A client on this machine. It is not read from until the port is open."""

    def __init__(self) -> None:
        super().__init__()
        #: Done when it has left.
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)


class _HostEnd(End):
    """The connection to the agent."""

    def __init__(self, near: LocalEnd) -> None:
        super().__init__()
        self._near = near
        self._received = b""
        self.opened: asyncio.Future[PortOpened] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._received += data
        try:
            answer = split(self._received)
            if answer is None:
                return
            opened, rest = PortOpened.read(answer[0]), answer[1]
        except (WireError, FieldError) as error:
            opened, rest = PortOpened(error=str(error)), b""
        if not opened.error and self._near.transport is not None:
            self.other, self._near.other = self._near, self
            if rest:
                super().data_received(rest)
            self._near.transport.resume_reading()
        if not self.opened.done():
            self.opened.set_result(opened)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened.done():
            self.opened.set_exception(UnreachableError("the connection was lost"))


async def join(near: LocalEnd, host: Host, kernel_id: str, port: int) -> None:
    """Join a client to a port of the kernel's host. Raises HostError, PortError."""
    link = await host.link()
    path = f"{link.agent.directory}/{PORT_SOCKET}"
    try:
        far = await link.transport.open(path, lambda: _HostEnd(near))
    except ConnectionError as error:
        raise ForwardingError(f"{_NO_PORTS} ({error})\n{_RESTART}") from None
    assert isinstance(far, _HostEnd)
    try:
        if far.transport is None:
            raise UnreachableError("the connection was lost", host=host.name)
        far.transport.write(encode(OpenPort(kernel_id=kernel_id, port=port).fields()))
        opened = await far.opened
    except BaseException:
        far.close()
        raise
    if opened.error:
        far.close()
        raise PortError(opened.error, host=host.name)
    if near.transport is None:
        far.close()
