"""A host by SSH within this process, with asyncssh.

sshd forwards connections to sockets on the host. Where it refuses, one channel carries everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import asyncssh

from ....errors import (
    ForwardingError,
    HostError,
    UnreachableError,
    forwarding_advice,
)
from ....placement.host_address import HostAddress
from ..base import Carried, Completed, Endpoint, Transport
from ..command import login_python
from ..pipe.errors import no_session, why_not_opened
from ..pipe.start import NotOpened
from ..pipe.transport import PipeTransport
from ..ssh.command import run_command
from .connection import Login, reason_of
from .login import log_in
from .pipe import begin, open_pipe

log = logging.getLogger(__name__)

#: Hosts whose sshd has refused to forward: we do not ask them again.
_WITHOUT_FORWARDING: set[HostAddress] = set()


class SSHTransport(Transport):
    """One SSH connection, and those to the jump hosts that it goes through."""

    def __init__(self, logins: Sequence[Login], address: HostAddress, python: str) -> None:
        """`logins`: each goes through the one before; the last one is on the host."""
        self._address, self._python = address, python
        #: Replaces forwards where sshd refuses them, and where kernels run as another user.
        self._pipe: PipeTransport | None = None
        self._opening_pipe = asyncio.Lock()
        # Kept here: closed connections forget their clients.
        self._clients = [client for _, client in logins]
        *self._jumps, self._connection = [connection for connection, _ in logins]
        self._listeners: dict[str, asyncssh.SSHListener] = {}
        self._exposing = asyncio.Lock()

    @property
    def forwards(self) -> bool:
        return self._pipe is None

    async def run(self, argv: Sequence[str], stdin: bytes, after: bytes = b"") -> Completed:
        if self._pipe is not None:
            return await self._pipe.run(argv, stdin, after)
        try:
            done = await run_command(self._connection, argv, stdin, after)
        except (OSError, asyncssh.Error) as error:
            raise _not_run(error) from None
        for client in self._clients:
            client.is_new = False
        return done

    async def begin(self, argv: Sequence[str], carried: Carried) -> None:
        if self._pipe is not None:
            await self._pipe.begin(argv, carried)
            return
        try:
            await begin(self._connection, argv, carried)
        except (OSError, asyncssh.Error) as error:
            raise _not_run(error) from None

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        if self._pipe is not None:
            return await self._pipe.open(endpoint, protocol_factory)
        try:
            return await self._forward(endpoint, protocol_factory)
        except (ConnectionRefusedError, ForwardingError) as error:
            if not isinstance(error, ForwardingError) and not isinstance(endpoint, str):
                raise
            return await self._open_by_pipe(endpoint, protocol_factory, error)

    async def _open_by_pipe(
        self,
        endpoint: Endpoint,
        protocol_factory: Callable[[], asyncio.Protocol],
        refused: Exception,
    ) -> asyncio.Protocol:
        """Open the endpoint by a pipe. If that works, sshd `refused` the forward, and the pipe
        carries everything from now on.

        OpenSSH reports a forbidden unix socket in the same way as one where nothing listens.
        """
        try:
            pipe = await self.open_pipe()
        except HostError as error:
            why = f"Nor can one channel carry everything: {error.message}"
            if isinstance(refused, ForwardingError):
                raise ForwardingError(f"{refused.message}\n{why}") from None
            raise ConnectionRefusedError(f"{refused}\n{why}") from None
        if isinstance(refused, ForwardingError):
            self._use(pipe, refused)
            return await pipe.open(endpoint, protocol_factory)
        try:
            protocol = await pipe.open(endpoint, protocol_factory)
        except ConnectionRefusedError:
            if self._pipe is not pipe:
                pipe.abort()
            raise refused from None
        self._use(pipe, refused)
        return protocol

    async def open_pipe(self) -> PipeTransport:
        """A pipe over a channel of this connection. Raises HostError."""
        way = self._address.way
        python = login_python(self._python, way)
        async with self._opening_pipe:
            if self._pipe is not None:
                return self._pipe
            try:
                return await open_pipe(self._connection, way.become, python)
            except NotOpened as failed:
                raise why_not_opened(failed, way, python) from None
            except (OSError, asyncssh.Error) as error:
                raise _not_run(error) from None

    def _use(self, pipe: PipeTransport, refused: Exception | None = None) -> None:
        """Send everything over the pipe from now on. Logs that once for each host."""
        if self._pipe is None:
            self._pipe = pipe
            pipe.call_when_closed(self._pipe_lost)
            if refused is not None and self._address not in _WITHOUT_FORWARDING:
                _WITHOUT_FORWARDING.add(self._address)
                log.warning(
                    "host %s: sshd forwards nothing (%s): one channel carries everything",
                    self._address.label,
                    refused,
                )
        elif pipe is not self._pipe:
            pipe.abort()

    def _pipe_lost(self, reason: str) -> None:
        self._clients[-1].why_closed = reason
        self._connection.abort()

    async def prepare(self) -> None:
        """Open the pipe if we know already that this host needs one. Raises HostError."""
        if self._address.way.run_as or self._address in _WITHOUT_FORWARDING:
            self._use(await self.open_pipe())

    async def _forward(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        protocol = protocol_factory()

        def session() -> Any:
            return _Session(protocol)

        made: Coroutine[Any, Any, Any]
        if isinstance(endpoint, str):
            made = self._connection.create_unix_connection(session, endpoint)
        else:
            made = self._connection.create_connection(session, "127.0.0.1", endpoint)
        opening = asyncio.ensure_future(made)
        try:
            # Cancelled, asyncssh would leave a channel open that nobody knows.
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_drop)
            raise
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise ForwardingError(forwarding_advice(reason_of(error))) from None
            raise ConnectionRefusedError(f"{endpoint}: {error.reason}") from None
        except (OSError, asyncssh.Error) as error:
            raise ConnectionError(reason_of(error)) from None
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        if self._pipe is not None:
            return await self._pipe.expose(local_path, host_path)
        async with self._exposing:  # sshd would refuse the second of two requests at once
            if host_path not in self._listeners and self._pipe is None:
                try:
                    await self._listen_there(host_path, local_path)
                except ForwardingError as error:
                    self._use(await self.open_pipe(), error)
        if self._pipe is not None:
            return await self._pipe.expose(local_path, host_path)
        return host_path

    async def _listen_there(self, host_path: str, local_path: str) -> None:
        try:
            self._listeners[host_path] = await self._connection.forward_remote_path(
                host_path, local_path
            )
        except asyncssh.ChannelListenError as error:
            raise ForwardingError(forwarding_advice(reason_of(error))) from None
        except (OSError, asyncssh.Error) as error:
            raise UnreachableError(reason_of(error)) from None

    async def wait_closed(self) -> str:
        await self._connection.wait_closed()
        return self._clients[-1].why_closed

    async def close(self) -> None:
        if self._pipe is not None:
            await self._pipe.close()
        for connection in (self._connection, *reversed(self._jumps)):
            connection.close()
            await connection.wait_closed()
        for client in self._clients:
            await client.proxy_ended()

    def abort(self) -> None:
        if self._pipe is not None:
            self._pipe.abort()
        for connection in (self._connection, *reversed(self._jumps)):
            connection.abort()


def _not_run(error: Exception) -> UnreachableError:
    if isinstance(error, asyncssh.ChannelOpenError):
        return no_session(reason_of(error))
    return UnreachableError(f"cannot run a command: {reason_of(error)}")


def _drop(opening: asyncio.Future[Any]) -> None:
    """Close a channel for which nobody waits any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


class _Session(asyncssh.SSHUNIXSession[bytes], asyncssh.SSHTCPSession[bytes]):
    """Joins an SSH channel to an asyncio protocol: the interfaces differ by an argument."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._paused = False
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[assignment,method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, chan: Any) -> None:
        self._pause, self._resume = chan.pause_reading, chan.resume_reading
        chan.pause_reading, chan.resume_reading = self._pause_soon, self._resume_now
        self._protocol.connection_made(chan)

    # asyncssh gives the other end room for more with each piece that it delivers, whatever it
    # still holds. If it were paused in the middle of that, what it holds would grow for ever.
    def _pause_soon(self) -> None:
        self._paused = True
        asyncio.get_running_loop().call_soon(self._pause_now)

    def _pause_now(self) -> None:
        if self._paused:
            self._pause()

    def _resume_now(self) -> None:
        self._paused = False
        self._resume()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._protocol.data_received(data)


async def connect_ssh(address: HostAddress, python: str = "python3") -> SSHTransport:
    """Connect and log in, through jump hosts where configured. Raises a HostError, or OnlyOpenSSH
    where the way in is automatic and the configuration of a host on it needs the ssh program."""
    transport = SSHTransport(await log_in(address), address, python)
    try:
        await transport.prepare()
    except HostError as error:
        transport.abort()
        raise error.at(str(address)) from None
    except BaseException:
        transport.abort()
        raise
    return transport
