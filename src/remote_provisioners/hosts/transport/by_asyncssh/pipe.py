"""A channel of our own SSH connection that carries a pipe, where sshd forwards nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncssh

from ..base import Carried
from ..pipe.start import Introduction, PipeStart
from ..pipe.transport import PipeTransport
from ..ssh.command import python_command

OPEN_SECONDS = 15.0


class _ChannelCarrier(asyncssh.SSHClientSession[bytes]):
    """One command on the host. Reports to a PipeStart."""

    def __init__(self, start: Carried) -> None:
        self._start = start
        self._channel: Any = None
        self._status: int | None = None

    # -- Carrier ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self._channel.is_closing():
            self._channel.write(data)

    def close(self) -> None:
        if not self._channel.is_closing():
            self._channel.write_eof()

    def abort(self) -> None:
        self._channel.abort()

    # -- asyncssh's calls -------------------------------------------------------------------

    def connection_made(self, chan: Any) -> None:
        self._channel = chan
        self._start.begin(self)
        self.pause_writing = self._start.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._start.resume_writing  # type: ignore[method-assign]

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._start.errors_received(data)
        else:
            self._start.data_received(data)

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def connection_lost(self, exc: Exception | None) -> None:
        self._start.ended(self._status)


async def begin(
    connection: asyncssh.SSHClientConnection, argv: Sequence[str], carried: Carried
) -> None:
    """Run a command on a new channel; its last word needs no quotes.

    Raises asyncssh.Error, OSError.
    """
    await connection.create_session(
        lambda: _ChannelCarrier(carried), python_command(argv), encoding=None, request_pty=False
    )


async def open_pipe(
    connection: asyncssh.SSHClientConnection, become: Sequence[str], python: str
) -> PipeTransport:
    """Open a pipe on a new channel. Raises NotOpened, HostError, asyncssh.Error, OSError."""
    introduction = Introduction(python)
    start = PipeStart(introduction)
    await begin(connection, [*become, *introduction.argv], start)
    return await start.within(OPEN_SECONDS)
