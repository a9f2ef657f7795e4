"""The socket at which servers open ports, and the check of who listens there.

A server reaches only a port on which a process of our own user listens. We look before we connect
and once more afterwards: the connection is used only if the same socket still listens. Linux lets
no other user listen at an address that is in use.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Collection, Dict, FrozenSet, Iterable, List, Tuple

from ...protocol.answers import BAD_REQUEST
from ...protocol.joined import End
from ...protocol.opening import split
from ...protocol.ports import PORT_SOCKET, OpenPort, Port, PortOpened, Ports
from ...protocol.structure import FieldError
from ...protocol.wire import WireError, encode
from ..background import Background
from ..channels.endpoints import endpoints_of
from ..errors import RefusedError
from ..private_socket import bind_anew, same_user
from .listeners import (
    Listener,
    belongs,
    handed_out,
    holders,
    holds,
    listeners,
    program_of,
    sockets_of,
)

if TYPE_CHECKING:
    from ..kernels.hosted_kernel import HostedKernel

_BACKLOG = 256
_CONNECT_SECONDS = 10.0


class PortServer:
    """Connections to ports of this host."""

    def __init__(self, directory: str, kernels: Dict[str, HostedKernel]) -> None:
        self._path = os.path.join(directory, PORT_SOCKET)
        self._kernels = kernels
        self._server: Any = None
        self._background = Background()
        #: The process that had a socket open when we last looked.
        self._known: Dict[int, int] = {}
        #: The sockets that each kernel had open when it was ready: its own.
        self._own: Dict[HostedKernel, FrozenSet[int]] = {}

    async def listen(self) -> None:
        listener = bind_anew(self._path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _ServerEnd(self), sock=listener, backlog=_BACKLOG
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._background.cancel()

    # -- the ports of kernels ---------------------------------------------------------------

    def note(self, kernel: HostedKernel) -> None:
        """The kernel is ready: what it listens on now is not offered."""
        for gone in [other for other in self._own if not other.running]:
            del self._own[gone]
        if kernel.process is not None:
            self._own[kernel] = sockets_of(kernel.process.pid)

    async def ports(self, kernel_ids: Iterable[str]) -> List[Ports]:
        """The ports on which the processes of these kernels listen."""
        leaders: Dict[str, int] = {}
        channels = [port for kernel in self._kernels.values() for port in _channels(kernel)]
        own = frozenset().union(*self._own.values())  # type: FrozenSet[int]
        for kernel_id in kernel_ids:
            kernel = self._kernels.get(kernel_id)
            if kernel is not None and kernel.process is not None and kernel.running:
                leaders[kernel_id] = kernel.process.pid
        look = partial(_look, leaders, channels, own)
        return await asyncio.get_running_loop().run_in_executor(None, look)

    # -- connections ------------------------------------------------------------------------

    def opened(self, end: _ServerEnd, request: OpenPort) -> None:
        """A server wants to be joined to a port."""
        self._background.run(self._join(end, request), "opening a port", end.abort)

    async def _join(self, end: _ServerEnd, request: OpenPort) -> None:
        port = request.port
        far = _PortEnd(end)
        try:
            if request.kernel_id not in self._kernels:
                raise RefusedError(BAD_REQUEST, "there is no kernel {}".format(request.kernel_id))
            listener = await self._check(port)
            loop = asyncio.get_running_loop()
            connecting = loop.create_connection(lambda: far, listener.address, port)
            await asyncio.wait_for(connecting, _CONNECT_SECONDS)
            if await self._check(port) != listener:
                raise RefusedError(BAD_REQUEST, "another program listens there now")
        except (OSError, asyncio.TimeoutError, RefusedError) as error:
            far.abort()
            text = str(error) if isinstance(error, RefusedError) else _why_not(error)
            end.refuse("port {}: {}".format(port, text))
            return
        end.join(far)

    async def _check(self, port: int) -> Listener:
        """The socket of our user that listens on this port. Raises RefusedError, OSError."""
        loop = asyncio.get_running_loop()
        found, known = await loop.run_in_executor(None, _check, port, dict(self._known))
        self._known = known
        return found


def _check(port: int, known: Dict[int, int]) -> Tuple[Listener, Dict[int, int]]:
    """Raises RefusedError, OSError."""
    user = os.getuid()
    there = [listener for listener in listeners(user) if listener.port == port]
    if not there:
        raise RefusedError(BAD_REQUEST, "no program of this user listens there")
    for listener in there:
        if listener.inode in known and holds(known[listener.inode], listener.inode):
            return listener, known
    found = holders([listener.inode for listener in there], user)
    for listener in there:
        if listener.inode in found:
            kept = {inode: pid for inode, pid in known.items() if holds(pid, inode)}
            kept[listener.inode] = found[listener.inode][0].pid
            return listener, kept
    raise RefusedError(BAD_REQUEST, "no program of this user listens there")


def _look(leaders: Dict[str, int], channels: Collection[int], own: Collection[int]) -> List[Ports]:
    """The ports of each kernel, given its first process. Without the ports of kernels' channels,
    and without their own sockets.
    """
    user = os.getuid()
    try:
        there = [
            listener
            for listener in listeners(user)
            if listener.port not in channels and listener.inode not in own
        ]
    except OSError:
        return []  # no /proc
    held = holders([listener.inode for listener in there], user)
    lower, upper = handed_out()
    found: Dict[str, Dict[int, Port]] = {kernel_id: {} for kernel_id in leaders}
    for listener in there:
        for holder in held.get(listener.inode, ()):
            for kernel_id, leader in leaders.items():
                if belongs(holder, leader, kernel_id):
                    number = listener.port
                    pid = holder.pid
                    chosen = not lower <= number <= upper
                    port = Port(number=number, pid=pid, program=program_of(pid), chosen=chosen)
                    found[kernel_id].setdefault(number, port)
    return [
        Ports(kernel_id=kernel_id, ports=[ports[number] for number in sorted(ports)])
        for kernel_id, ports in found.items()
    ]


def _channels(kernel: HostedKernel) -> List[int]:
    """The TCP ports of a kernel's own channels."""
    try:
        endpoints = endpoints_of(kernel.connection).values()
    except (KeyError, ValueError, TypeError):
        return []
    return [endpoint for endpoint in endpoints if isinstance(endpoint, int)]


def _why_not(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "the program does not accept the connection"
    return getattr(error, "strerror", None) or str(error)


class _ServerEnd(End):
    """A server's connection. What it sends before it is joined waits."""

    def __init__(self, ports: PortServer) -> None:
        super().__init__()
        self._ports = ports
        self._received = b""
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not same_user(transport.get_extra_info("socket")):
            transport.abort()  # type: ignore[attr-defined]
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._received += data
        if self._asked:
            return
        try:
            opening = split(self._received)
            if opening is None:
                return
            request = OpenPort.read(opening[0])
        except (WireError, FieldError) as error:
            self.refuse(str(error))
            return
        self._asked, self._received = True, opening[1]
        self.transport.pause_reading()
        self._ports.opened(self, request)

    def eof_received(self) -> bool:
        stays = super().eof_received()
        return stays if self.other is not None else self._asked

    def refuse(self, text: str) -> None:
        if self.transport is not None:
            self.transport.write(encode(PortOpened(error=text).fields()))
            self.transport.close()

    def join(self, far: _PortEnd) -> None:
        """The port is open."""
        if self.transport is None or far.transport is None:
            self.abort()
            far.abort()
            return
        self.transport.write(encode(PortOpened().fields()))
        self.other = far
        far.joined()
        if self._received:
            far.transport.write(self._received)
        self._received = b""
        if self.ended:
            far.transport.write_eof()
        self.transport.resume_reading()


class _PortEnd(End):
    """The connection to the program. It may speak before the server's end is joined."""

    def __init__(self, near: _ServerEnd) -> None:
        super().__init__()
        self._near = near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wait()

    def joined(self) -> None:
        self.other = self._near
        self.transport.resume_reading()
