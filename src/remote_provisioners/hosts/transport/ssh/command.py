"""One command on a host over our own SSH connection, run by the login shell there.

sshd passes a command to the login shell. Its start-up files may read stdin, change the directory,
or start another shell. So we send nothing before the program itself has printed something.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from typing import Any

import asyncssh

from ..base import SPEAK_SECONDS, Completed

#: A program that we give up may still print something when its stdin ends.
_LAST_WORDS_SECONDS = 1.0
_NOISE_BYTES = 1024 * 1024


def shell_command(argv: Sequence[str]) -> str:
    """Quote words for a login shell, which runs them in any directory its start-up files choose.

    `./program` means one in the home directory, which every shell knows as ~.
    """
    return " ".join(
        f"~/{shlex.quote(word[2:])}" if word.startswith("./") else shlex.quote(word)
        for word in argv
    )


def python_command(argv: Sequence[str]) -> str:
    """Like `shell_command`, for Python. The last word stays unquoted: no shell changes it.

    Some hosts have no shell here: their ForceCommand splits the command at its spaces.
    """
    return f"{shell_command(argv[:-1])} {argv[-1]}"


class _Session(asyncssh.SSHClientSession[bytes]):
    def __init__(self, stdin: bytes, after: bytes) -> None:
        self._stdin, self._after = stdin, after
        self._channel: Any = None
        self.stdout, self.stderr = bytearray(), bytearray()
        self.returncode: int | None = None
        self.spoken = asyncio.Event()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def session_started(self) -> None:
        if not self._after:
            self._send()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self.stderr += data
            return
        self.stdout += data
        if not self.spoken.is_set():
            if self._after in self.stdout:
                self._send()
            elif len(self.stdout) > _NOISE_BYTES:  # a login that prints without end
                self.spoken.set()
                self._channel.abort()

    def _send(self) -> None:
        self.spoken.set()
        if not self._channel.is_closing():  # the program may have ended already
            self._channel.write(self._stdin)
            self._channel.write_eof()

    def exit_status_received(self, status: int) -> None:
        self.returncode = status

    def connection_lost(self, exc: Exception | None) -> None:
        self.spoken.set()
        if self.over.done():
            return
        if exc is not None and self.returncode is None:
            self.over.set_exception(exc)
        else:
            self.over.set_result(None)


async def run_command(
    connection: asyncssh.SSHClientConnection, argv: Sequence[str], stdin: bytes, after: bytes
) -> Completed:
    """Run a command until it ends. `stdin` is sent once its output contains `after`.

    Raises OSError, asyncssh.Error.
    """
    session = _Session(stdin, after)
    command = python_command(argv) if after else shell_command(argv)
    channel, _ = await connection.create_session(
        lambda: session, command, encoding=None, request_pty=False
    )
    try:
        try:
            await asyncio.wait_for(session.spoken.wait(), SPEAK_SECONDS)
        except asyncio.TimeoutError:
            channel.write_eof()
            await asyncio.wait([session.over], timeout=_LAST_WORDS_SECONDS)
            return Completed(None, bytes(session.stdout), bytes(session.stderr), late=True)
        await asyncio.shield(session.over)
    finally:
        if not session.over.done():
            session.over.cancel()
            channel.abort()
        elif not session.over.cancelled():
            session.over.exception()
    return Completed(session.returncode, bytes(session.stdout), bytes(session.stderr))
