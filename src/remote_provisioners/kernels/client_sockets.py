"""A kernel's channels on this machine: unix sockets that lead to the kernel's sockets.

The sockets keep their paths as long as the kernel has a provisioner, across restarts of the kernel
and reconnections to the host. A client that connects while the kernel is away waits; if it were
refused, ZeroMQ would only try again later. A connected client stays connected while the host is
away, and its stream continues where it stopped (protocol/stream.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo

from ..errors import RemoteProvisionerError
from ..protocol.conventions import CHANNELS, ipc_ports
from ..protocol.stream_opening import OpenStream
from .client_requests import CutOff
from .client_stream import ClientLink, LocalEnd

#: Connects a protocol to the agent's streams. The argument of the inner function is its pid.
Opener = Callable[[Callable[[int], asyncio.Protocol]], Awaitable[asyncio.Protocol]]

_RETRY_SECONDS = 0.1
#: How long to keep links for the first clients after a kernel's start.
_SPARE_SECONDS = 10.0
#: How soon a kernel's own manager follows the output of a kernel that is restored.
_FIRST_CLIENT_SECONDS = 1.0


class ClientSockets:
    """The five channels of one kernel. Lives in the I/O thread.

    `keep_seconds`: how long the host keeps a client's stream after it has lost this server.
    """

    def __init__(
        self, directory: Path, name: str, kernel_id: str, open_link: Opener, keep_seconds: float
    ) -> None:
        #: The "ip" of an ipc connection, in jupyter_client's words: `ip`-1 is the first socket.
        self.ip = str(directory / name)
        self._name = name
        self.ports = ipc_ports()
        self.open_link = open_link
        self._kernel_id = kernel_id
        self._keep_seconds = keep_seconds
        #: Whether the kernel's sockets use CurveZMQ, so that only they can answer a client.
        self.encrypted = False
        self._replay = False
        #: How many iopub clients will come back, whose streams a killed agent had.
        self._to_return = 0
        #: What clients sent to a killed agent, until the clients come back.
        self.cut_off: Mapping[str, CutOff] = {channel: CutOff() for channel in CHANNELS}
        self._serving = asyncio.Event()
        self._reachable = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        # Links that are open or opening for future clients.
        self._spares: deque[asyncio.Task[ClientLink | None]] = deque()
        self.clients: set[LocalEnd] = set()
        #: An iopub client has come.
        self._followed = asyncio.Event()
        self.closed = False
        #: Bytes to and from the kernel, of clients that are gone.
        self._traffic = (0, 0)

    async def listen(self) -> None:
        """Open the sockets. Clients wait until `serve`."""
        loop = asyncio.get_running_loop()
        for channel in CHANNELS:

            def accepted(channel: str = channel) -> LocalEnd:
                return LocalEnd(self, self._request_of(channel))

            path = self._hidden(channel)
            server = await loop.create_unix_server(accepted, path, start_serving=False)
            self._servers.append(server)  # before any await
            await server.start_serving()
        self.show()

    async def move(self, directory: Path) -> None:
        """Open the sockets in `directory`, because the old ones were removed.

        Connected clients stay connected. Raises OSError.
        """
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.ip = str(directory / self._name)
        await self.listen()

    def show(self) -> None:
        """Create the paths at which clients look for the sockets.

        jupyter_client deletes the "ipc files" of a kernel whenever it stops the kernel, even for
        a restart. It finds links, and the sockets behind them stay.
        """
        for channel in CHANNELS:
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # `move` follows
                os.symlink(self._hidden(channel), f"{self.ip}-{self.ports[channel + '_port']}")

    def connection(self, there: Mapping[str, Any]) -> KernelConnectionInfo:
        """A client's connection info: these endpoints, and the key of the kernel on the host."""
        info: dict[str, Any] = {"transport": "ipc", "ip": self.ip, **self.ports}
        for name in ("signature_scheme", "curve_publickey", "curve_secretkey"):
            if name in there:
                info[name] = there[name]
        info["key"] = there["key"].encode("ascii")
        return cast(KernelConnectionInfo, info)

    def replay(self) -> None:
        """Give the next iopub client the output that no client has received."""
        self._replay = True

    async def replay_to_second(self) -> None:
        """Like `replay`, but for the second iopub client. The first gets no old output."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._followed.wait(), _FIRST_CLIENT_SECONDS)
        self.replay()

    def has_client(self, channel: str) -> bool:
        """Whether a client is connected to this channel."""
        return any(end.request.channel == channel for end in self.clients)

    def prepare(self) -> None:
        """Open a link for each channel while the kernel starts, so that no client waits for one."""
        spares = [asyncio.ensure_future(self._open_spare()) for _ in CHANNELS]
        self._spares.extend(spares)
        asyncio.get_running_loop().call_later(_SPARE_SECONDS, self._drop, spares)

    async def _open_spare(self) -> ClientLink | None:
        with contextlib.suppress(ConnectionError, RemoteProvisionerError):
            return await self._open()
        return None

    async def _open(self) -> ClientLink:
        link = await self.open_link(ClientLink)
        assert isinstance(link, ClientLink)
        return link

    async def _link(self) -> ClientLink:
        """An unused link. Raises ConnectionError, RemoteProvisionerError."""
        while self._spares:
            opening = self._spares.popleft()
            try:
                spare = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close)
                raise
            if spare is not None and not spare.lost.done():
                return spare
        return await self._open()

    def _drop(self, spares: Iterable[asyncio.Task[ClientLink | None]]) -> None:
        """Close the links that no client has taken."""
        for spare in [spare for spare in spares if spare in self._spares]:
            self._spares.remove(spare)
            spare.add_done_callback(_close)

    def serve(self, begins: bool = False) -> None:
        """The kernel listens and its host is reachable. Let clients through.

        `begins`: its first process on this host. Clients that wait get all output of it, as clients
        do that stay connected during a restart.
        """
        for end in self.clients if begins else ():
            end.request.returned = end.request.channel == "iopub" and not end.opened
        self._reachable.set()
        self._serving.set()

    def pause(self) -> None:
        """The kernel is away. New clients wait."""
        self._serving.clear()

    def disconnected(self) -> None:
        """The host is away. All clients wait."""
        self._serving.clear()
        self._reachable.clear()
        self._drop(self._spares)

    def reachable(self) -> None:
        """The host is back. The kernel may have ended, but its earlier output is available."""
        self._reachable.set()

    def served_by(self, agent: int) -> None:
        """The agent with this pid has the kernel. Close the connections that a killed one had.

        Their streams are over. The clients connect again.
        """
        for end in list(self.clients):
            if agent and end.opened and end.request.agent != agent:
                self._to_return += end.request.channel == "iopub"
                end.cut_off()

    def drop(self) -> None:
        """The kernel is lost. Close its clients' connections. New clients wait."""
        for end in list(self.clients):
            if end.opened:
                end.abort()

    def drop_orders(self) -> None:
        """Close waiting connections to the control channel. A shutdown message for the lost process
        must not reach the next one.
        """
        for end in list(self.clients):
            if end.request.channel == "control" and not end.opened:
                end.abort()

    def close(self) -> None:
        """Close the sockets and all connections, and remove the files."""
        self.closed = True
        self.disconnected()
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for listening in server.sockets:
                loop.remove_reader(listening)
            # Close it after connections that were accepted a moment ago. asyncio would not complete
            # them for a closed server, and would leave their sockets to the garbage collector.
            loop.call_soon(server.close)
        for end in list(self.clients):
            end.abort()
        for channel in CHANNELS:
            for path in (self._hidden(channel), f"{self.ip}-{self.ports[channel + '_port']}"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def _hidden(self, channel: str) -> str:
        return f"{self.ip}.{channel}"

    def _request_of(self, channel: str) -> OpenStream:
        replay = self._replay and channel == "iopub"
        self._replay = self._replay and not replay
        returned = self._to_return > 0 and channel == "iopub"
        self._to_return -= returned
        return OpenStream(
            stream=secrets.token_hex(16),
            kernel_id=self._kernel_id,
            channel=channel,
            keep=self._keep_seconds,
            replay=replay,
            returned=returned,
            greeted=not self.encrypted,
        )

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to and from the kernel, of all clients so far."""
        there, back = self._traffic
        for end in list(self.clients):
            there, back = there + end.stream.outgoing.end, back + end.stream.received
        return there, back

    def joined(self, end: LocalEnd) -> None:
        """A client has come."""
        self.clients.add(end)
        if end.request.channel == "iopub":
            self._followed.set()

    def left(self, end: LocalEnd) -> None:
        """A client has gone."""
        if end in self.clients:
            there, back = self._traffic
            self.clients.discard(end)
            self._traffic = (there + end.stream.outgoing.end, back + end.stream.received)

    async def carry(self, end: LocalEnd) -> None:
        """Carry a client's stream on one link after the other until it is over."""
        while not end.stream.over:
            await (self._reachable if end.known else self._serving).wait()
            # On an error the host has just gone, and the state will follow.
            with contextlib.suppress(ConnectionError, RemoteProvisionerError):
                link = await self._link()
                if end.request.channel == "shell" and not end.opened:
                    end.request.unanswered = dict(self.cut_off["shell"].unanswered)
                link.carry(end)
                await link.lost
            if not end.stream.over:
                await asyncio.sleep(_RETRY_SECONDS)


def _close(spare: asyncio.Task[ClientLink | None]) -> None:
    link = None if spare.cancelled() else spare.result()
    if link is not None:
        link.close()
