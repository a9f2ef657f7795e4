"""This machine as a host: subprocesses and sockets, no SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence

from ...errors import AgentError
from ...user import database_entry, user_name
from .base import Carried, Completed, Endpoint, Transport
from .pipe.process import ProcessCarrier, first_directory

#: Variables that a login would set. Kernels get no others of the server's environment.
_LOGIN_VARIABLES = ("PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "SLURM_CONF")


def login_environment() -> dict[str, str]:
    """The environment of a login on this machine, as far as the server knows it."""
    name, home, shell = user_name(), "/", "/bin/sh"
    user = database_entry()
    if user is not None:
        name, home, shell = user.pw_name, user.pw_dir, user.pw_shell
    home = os.environ.get("HOME", home)
    environ = {"HOME": home, "USER": name, "LOGNAME": name, "SHELL": shell}
    for name, value in os.environ.items():
        if name in _LOGIN_VARIABLES or name.startswith("LC_"):
            environ[name] = value
    return environ


class LocalTransport(Transport):
    """The server's machine and user."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    async def run(self, argv: Sequence[str], stdin: bytes, after: bytes = b"") -> Completed:
        environ = login_environment()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=environ,
                cwd=first_directory(environ),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise AgentError(f"cannot run {argv[0]}: {error.strerror}") from None
        try:
            stdout, stderr = await process.communicate(stdin)
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return Completed(process.returncode, stdout, stderr)

    async def begin(self, argv: Sequence[str], carried: Carried) -> None:
        try:
            ProcessCarrier(argv, carried, login_environment())
        except OSError as error:
            raise AgentError(f"cannot run {argv[0]}: {error.strerror}") from None

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        if isinstance(endpoint, str):
            _, protocol = await loop.create_unix_connection(protocol_factory, endpoint)
        else:
            _, protocol = await loop.create_connection(protocol_factory, "127.0.0.1", endpoint)
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        return local_path

    async def wait_closed(self) -> str:
        await self._closed.wait()
        return "closed"

    async def close(self) -> None:
        self._closed.set()

    def abort(self) -> None:
        self._closed.set()
