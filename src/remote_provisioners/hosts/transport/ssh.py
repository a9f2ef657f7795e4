"""A host by SSH, with asyncssh: streams, commands and listeners over one connection."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Callable, Sequence
from typing import Any, cast

import asyncssh

from ...errors import ForwardingError, UnreachableError, forwarding_advice
from ...placement.host_address import HostAddress
from .base import Completed, Endpoint, Transport
from .ssh_login import Login, log_in, reason_of


async def connect_ssh(address: HostAddress) -> SSHTransport:
    """Connect and log in, through jump hosts where configured. Raises a HostError."""
    return SSHTransport(await log_in(address))


class SSHTransport(Transport):
    """One SSH connection, and those to the jump hosts that it goes through."""

    def __init__(self, logins: Sequence[Login]) -> None:
        """`logins`: through each to the next; the last one is on the host."""
        # Not asked of the connections: they forget them when they are closed.
        self._clients = [client for _, client in logins]
        *self._jumps, self._connection = [connection for connection, _ in logins]
        self._listeners: dict[str, asyncssh.SSHListener] = {}
        self._exposing = asyncio.Lock()

    async def run(self, argv: Sequence[str], stdin: bytes) -> Completed:
        # sshd hands a command to the login shell: each word is quoted, and none is a user's.
        command = " ".join(shlex.quote(word) for word in argv)
        try:
            process = await self._connection.create_process(
                command, encoding=None, request_pty=False
            )
            with contextlib.suppress(BrokenPipeError):  # it has ended already: its output says why
                process.stdin.write(stdin)
                process.stdin.write_eof()
            done = await process.wait()
            for client in self._clients:
                client.is_new = False
        except (OSError, asyncssh.Error) as error:
            raise UnreachableError(f"cannot run a command: {reason_of(error)}") from None
        return Completed(
            None if done.exit_signal else done.exit_status,
            cast(bytes, done.stdout or b""),
            cast(bytes, done.stderr or b""),
        )

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        protocol = protocol_factory()

        def session() -> Any:
            return _Session(protocol)

        try:
            if isinstance(endpoint, str):
                await self._connection.create_unix_connection(session, endpoint)
            else:
                await self._connection.create_connection(session, "127.0.0.1", endpoint)
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise ForwardingError(forwarding_advice(reason_of(error))) from None
            raise ConnectionRefusedError(f"{endpoint}: {error.reason}") from None
        except (OSError, asyncssh.Error) as error:
            raise ConnectionError(reason_of(error)) from None
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        async with self._exposing:  # of two that ask at once sshd would refuse the second
            if host_path not in self._listeners:
                await self._listen_there(host_path, local_path)
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
        for connection in (self._connection, *reversed(self._jumps)):
            connection.close()
            await connection.wait_closed()
        for client in self._clients:
            await client.proxy_ended()

    def abort(self) -> None:
        for connection in (self._connection, *reversed(self._jumps)):
            connection.abort()


class _Session(asyncssh.SSHUNIXSession[bytes], asyncssh.SSHTCPSession[bytes]):
    """An SSH channel under an asyncio protocol: the two interfaces differ by an argument."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[assignment,method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, chan: Any) -> None:
        self._protocol.connection_made(chan)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._protocol.data_received(data)
