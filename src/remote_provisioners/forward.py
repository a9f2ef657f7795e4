"""A kernel's channels on this machine: unix sockets whose far end is the kernel's.

The sockets stay where they are for as long as the kernel has a provisioner: across a restart of
the kernel and across a reconnection to the host. A client that connects while the kernel is not
there is not refused but waits: ZeroMQ would only try again, later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from .agent.endpoints import CHANNELS
from .errors import RemoteProvisionerError
from .transport import Endpoint

#: Connects a protocol to an endpoint on the host, waiting for the host as long as it takes.
Opener = Callable[[Endpoint, Callable[[], asyncio.Protocol]], Awaitable[asyncio.Protocol]]

_RETRY_SECONDS = 0.1


class SocketDirectory:
    """A directory only we can enter, for this process's sockets; its path is short."""

    def __init__(self) -> None:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        parent = runtime if runtime and len(runtime) < 40 and os.access(runtime, os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="rp-", dir=parent))  # mode 0700

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Forward:
    """The five channels of one kernel. Lives in the I/O thread."""

    def __init__(self, directory: Path, name: str, open_endpoint: Opener) -> None:
        #: What jupyter_client calls the ip of an ipc connection: `ip`-1 is the first socket.
        self.ip = str(directory / name)
        self.ports = {f"{channel}_port": number for number, channel in enumerate(CHANNELS, 1)}
        self._open_endpoint = open_endpoint
        self._targets: Mapping[str, Endpoint] = {}
        self._serving = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.locals: set[LocalEnd] = set()

    async def listen(self) -> None:
        """Open the sockets. They wait until `serve` says where the kernel is."""
        loop = asyncio.get_running_loop()
        for channel in CHANNELS:

            def accepted(channel: str = channel) -> LocalEnd:
                return LocalEnd(self, channel)

            path = self._hidden(channel)
            server = await loop.create_unix_server(accepted, path, start_serving=False)
            self._servers.append(server)  # before anything that can be cancelled
            await server.start_serving()
        self.show()

    def show(self) -> None:
        """Put the sockets where clients look for them.

        jupyter_client deletes the "ipc files" of a kernel whenever it stops one, also before it
        starts it again: what it finds are links, and the sockets behind them stay.
        """
        for channel in CHANNELS:
            with contextlib.suppress(FileExistsError):
                os.symlink(self._hidden(channel), f"{self.ip}-{self.ports[channel + '_port']}")

    def serve(self, targets: Mapping[str, Endpoint]) -> None:
        """The kernel listens at `targets` on the host: let clients through."""
        self._targets = targets
        self._serving.set()

    def pause(self) -> None:
        """The kernel or its host is away: new clients wait."""
        self._serving.clear()

    def close(self) -> None:
        """Close the sockets and every connection, remove the files."""
        self.pause()
        for server in self._servers:
            server.close()
        for task in self.tasks:
            task.cancel()
        for end in list(self.locals):
            end.abort()
        for channel in CHANNELS:
            for path in (self._hidden(channel), f"{self.ip}-{self.ports[channel + '_port']}"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def _hidden(self, channel: str) -> str:
        return f"{self.ip}.{channel}"

    async def connect(self, end: LocalEnd, channel: str) -> None:
        """Join a client to the kernel once the kernel is there."""
        while True:
            await self._serving.wait()
            try:
                await self._open_endpoint(self._targets[channel], lambda: RemoteEnd(end))
                return
            except (ConnectionError, RemoteProvisionerError):
                # The kernel has just gone, or the host: the state will follow in a moment.
                await asyncio.sleep(_RETRY_SECONDS)


class _End(asyncio.Protocol):
    """One end of a joined pair: what arrives here is written there, at the other's pace.

    ZeroMQ never half-closes: when one end is closed, so is the other.
    """

    transport: Any = None
    other: _End | None = None

    def _sink(self) -> Any:
        transport = self.other.transport if self.other is not None else None
        return None if transport is None or transport.is_closing() else transport

    def data_received(self, data: bytes) -> None:
        if sink := self._sink():
            sink.write(data)

    def pause_writing(self) -> None:
        if sink := self._sink():
            sink.pause_reading()

    def resume_writing(self) -> None:
        if sink := self._sink():
            sink.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if sink := self._sink():
            sink.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class LocalEnd(_End):
    """A client of this machine, not read from until the kernel is joined to it."""

    def __init__(self, forward: Forward, channel: str) -> None:
        self._forward = forward
        self._channel = channel
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.pause_reading()
        self._forward.locals.add(self)
        self._task = asyncio.ensure_future(self._forward.connect(self, self._channel))
        self._forward.tasks.add(self._task)
        self._task.add_done_callback(self._forward.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forward.locals.discard(self)
        if self._task is not None:
            self._task.cancel()


class RemoteEnd(_End):
    """The stream to the kernel."""

    def __init__(self, local: LocalEnd) -> None:
        self._local = local

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self._local.transport is None:  # the client has gone meanwhile
            self.transport.abort()
            return
        self.other, self._local.other = self._local, self
        self._local.transport.resume_reading()
