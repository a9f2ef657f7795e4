"""Runs a ProxyCommand of the user's SSH configuration, which carries a connection to a host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from typing import Any

from ..ssh.reading import environment

_TAIL_BYTES = 2000
_TAIL_LINES = 5
_END_SECONDS = 1.0


class ProxyCommand:
    """The command. The user's shell runs it, as with OpenSSH (ssh_config(5)).

    Its text comes from the user's own configuration.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._stderr: Any = None
        self._process: asyncio.subprocess.Process | None = None
        self._reaping: asyncio.Task[int] | None = None

    async def start(self) -> socket.socket:
        """Start it. Returns our end of its socket, which the caller closes. Raises OSError."""
        ours, its = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            self._process = await asyncio.create_subprocess_exec(
                shell,
                "-c",
                f"exec {self._command}",
                stdin=its.fileno(),
                stdout=its.fileno(),
                stderr=self._stderr,
                env=environment(),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            self._stderr.close()
            raise
        finally:
            its.close()
        self._reaping = asyncio.ensure_future(self._process.wait())
        return ours

    def said(self) -> str:
        """The last lines that it has written to stderr; nothing if it could not be started."""
        if self._process is None:
            return ""
        size = os.fstat(self._stderr.fileno()).st_size
        last = os.pread(self._stderr.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return "\n".join(last.decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:])

    async def ended(self) -> None:
        """Wait until it has ended after `end`; kill it if that takes long."""
        process, reaping = self._process, self._reaping
        if process is None or reaping is None:
            return
        await asyncio.wait([reaping], timeout=_END_SECONDS)
        if not reaping.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await reaping

    def end(self) -> None:
        """Terminate it and the processes that it has started."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        if self._stderr is not None:
            self._stderr.close()
