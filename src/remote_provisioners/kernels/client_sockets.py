"""A kernel's channels on this machine: unix sockets whose far end is the kernel's.

The sockets stay where they are for as long as the kernel has a provisioner: across a restart of
the kernel and across a reconnection to the host. A client that connects while the kernel is not
there is not refused but waits: ZeroMQ would only try again, later. A client that is connected
stays so while the host is away: its stream goes on where it stood (protocol/stream.py).
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
from ..protocol import zmtp
from ..protocol.answers import NO_STREAM
from ..protocol.conventions import CHANNELS, ipc_ports
from ..protocol.messages import OpenStream, StreamOpened
from ..protocol.stream import Link, SocketEnd, Stream
from ..protocol.wire import Message

#: Connects a protocol to the agent's streams, now; the protocol is made for an agent of this pid.
Opener = Callable[[Callable[[int], asyncio.Protocol]], Awaitable[asyncio.Protocol]]

_RETRY_SECONDS = 0.1
#: After a kernel's start, how long its clients are expected.
_SPARE_SECONDS = 10.0


class ClientSockets:
    """The five channels of one kernel. Lives in the I/O thread.

    `keep_seconds`: how long the host keeps a client's stream after it has lost us.
    """

    def __init__(
        self, directory: Path, name: str, kernel_id: str, open_link: Opener, keep_seconds: float
    ) -> None:
        #: What jupyter_client calls the ip of an ipc connection: `ip`-1 is the first socket.
        self.ip = str(directory / name)
        self._name = name
        self.ports = ipc_ports()
        self.open_link = open_link
        self._kernel_id = kernel_id
        self._keep_seconds = keep_seconds
        #: Whether the kernel's sockets want CurveZMQ: it is they who answer a client then.
        self.encrypted = False
        self._replay = False
        self._serving = asyncio.Event()
        self._reachable = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        # Links that are open, or being opened, for clients to come.
        self._spares: deque[asyncio.Task[_ClientLink | None]] = deque()
        self.clients: set[LocalEnd] = set()
        self.closed = False
        #: Bytes to the kernel and from it, of the clients that are gone.
        self._traffic = (0, 0)

    async def listen(self) -> None:
        """Open the sockets. They wait until `serve`."""
        loop = asyncio.get_running_loop()
        for channel in CHANNELS:

            def accepted(channel: str = channel) -> LocalEnd:
                return LocalEnd(self, self._request_of(channel))

            path = self._hidden(channel)
            server = await loop.create_unix_server(accepted, path, start_serving=False)
            self._servers.append(server)  # before anything that can be cancelled
            await server.start_serving()
        self.show()

    async def move(self, directory: Path) -> None:
        """Open the sockets in `directory`: where they were they have been removed.

        Clients that are connected stay so. Raises OSError.
        """
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.ip = str(directory / self._name)
        await self.listen()

    def show(self) -> None:
        """Put the sockets where clients look for them.

        jupyter_client deletes the "ipc files" of a kernel whenever it stops one, also before it
        starts it again: what it finds are links, and the sockets behind them stay.
        """
        for channel in CHANNELS:
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # `move` will do it
                os.symlink(self._hidden(channel), f"{self.ip}-{self.ports[channel + '_port']}")

    def connection(self, there: Mapping[str, Any]) -> KernelConnectionInfo:
        """What a client needs: these endpoints, and the key of the connection on the host."""
        info: dict[str, Any] = {"transport": "ipc", "ip": self.ip, **self.ports}
        for name in ("signature_scheme", "curve_publickey", "curve_secretkey"):
            if name in there:
                info[name] = there[name]
        info["key"] = there["key"].encode("ascii")
        return cast(KernelConnectionInfo, info)

    def replay(self) -> None:
        """The next iopub client to connect is the notebook: it gets the output that nobody had."""
        self._replay = True

    async def replay_to_second(self) -> None:
        """`replay`, but one client of iopub comes first and gets nothing of that."""
        for _ in range(100):
            if self.has_client("iopub"):
                break
            await asyncio.sleep(0.01)
        self.replay()

    def has_client(self, channel: str) -> bool:
        """Whether somebody is connected to this channel."""
        return any(end.request.channel == channel for end in self.clients)

    def prepare(self) -> None:
        """Open a link for each channel while the kernel starts: its clients wait for none then."""
        spares = [asyncio.ensure_future(self._open_spare()) for _ in CHANNELS]
        self._spares.extend(spares)
        asyncio.get_running_loop().call_later(_SPARE_SECONDS, self._drop, spares)

    async def _open_spare(self) -> _ClientLink | None:
        with contextlib.suppress(ConnectionError, RemoteProvisionerError):
            return await self._open()
        return None

    async def _open(self) -> _ClientLink:
        link = await self.open_link(_ClientLink)
        assert isinstance(link, _ClientLink)
        return link

    async def _link(self) -> _ClientLink:
        """A link that carries nothing yet. Raises ConnectionError, RemoteProvisionerError."""
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

    def _drop(self, spares: Iterable[asyncio.Task[_ClientLink | None]]) -> None:
        """Close those that nobody has taken."""
        for spare in [spare for spare in spares if spare in self._spares]:
            self._spares.remove(spare)
            spare.add_done_callback(_close)

    def serve(self) -> None:
        """The kernel listens and its host can be reached: let clients through."""
        self._reachable.set()
        self._serving.set()

    def pause(self) -> None:
        """The kernel is away: new clients wait."""
        self._serving.clear()

    def disconnected(self) -> None:
        """The host is away: everybody waits."""
        self._serving.clear()
        self._reachable.clear()
        self._drop(self._spares)

    def reachable(self) -> None:
        """The host is back; the kernel may have ended, but what it said before can be had."""
        self._reachable.set()

    def drop(self) -> None:
        """The kernel is lost: close what clients have open to it; new ones wait."""
        for end in list(self.clients):
            if end.opened:
                end.abort()

    def drop_orders(self) -> None:
        """Close what waits to control the kernel: a shutdown of the process that has been lost
        is none of the next one.
        """
        for end in list(self.clients):
            if end.request.channel == "control" and not end.opened:
                end.abort()

    def close(self) -> None:
        """Close the sockets and every connection, remove the files."""
        self.closed = True
        self.disconnected()
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for listening in server.sockets:
                loop.remove_reader(listening)
            # Behind a connection that was accepted a moment before. asyncio would not make it for a
            # server that is closed, and leave its socket open until the garbage is collected.
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
        return OpenStream(
            stream=secrets.token_hex(16),
            kernel_id=self._kernel_id,
            channel=channel,
            keep=self._keep_seconds,
            replay=replay,
            greeted=not self.encrypted,
        )

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to the kernel and from it, of all clients so far."""
        there, back = self._traffic
        for end in list(self.clients):
            there, back = there + end.stream.outgoing.end, back + end.stream.received
        return there, back

    def left(self, end: LocalEnd) -> None:
        """A client is gone."""
        if end in self.clients:
            there, back = self._traffic
            self.clients.discard(end)
            self._traffic = (there + end.stream.outgoing.end, back + end.stream.received)

    async def carry(self, end: LocalEnd) -> None:
        """Keep a client's stream on a link, one after the other, until it is over."""
        while not end.stream.over:
            await (self._reachable if end.known else self._serving).wait()
            # ConnectionError and others: the host has just gone; the state will follow.
            with contextlib.suppress(ConnectionError, RemoteProvisionerError):
                link = await self._link()
                link.carry(end)
                await link.lost
            if not end.stream.over:
                await asyncio.sleep(_RETRY_SECONDS)


class LocalEnd(SocketEnd):
    """A client of this machine, not read from until the kernel is there."""

    def __init__(self, client_sockets: ClientSockets, request: OpenStream) -> None:
        super().__init__(Stream())
        self.request = request
        #: Whether anything was sent to an agent, and whether that has answered.
        self.opened = self.known = False
        self._client_sockets = client_sockets
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._client_sockets.closed:  # accepted a moment before
            self.stream.abort()
            return
        self.transport.pause_reading()
        if self.request.greeted:
            # What the kernel's socket would say, two round trips later; the agent leaves it out.
            kind = b"PUB" if self.request.channel == "iopub" else b"ROUTER"
            self.transport.write(zmtp.greeting(kind))
        self._client_sockets.clients.add(self)
        self._task = asyncio.ensure_future(self._client_sockets.carry(self))
        self._task.add_done_callback(self._carried)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened and self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        self.stream.abort()
        if self._task is not None:
            self._task.cancel()

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._client_sockets.left(self)


class _ClientLink(Link):
    """A connection to the agent of that pid, for a client's stream."""

    def __init__(self, agent: int) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agent = agent
        self._end: LocalEnd | None = None
        super().__init__(self._answered, self._is_lost)

    def carry(self, end: LocalEnd) -> None:
        """Carry a client's stream, as far as this connection goes."""
        if end.stream.over:
            self.abort()
            return
        self._end = end
        request = end.request
        request.agent = request.agent or self._agent
        request.received, request.known = end.stream.received, end.known
        self.say(request)
        if not end.opened:  # nothing can have arrived yet: no answer has to be awaited
            end.opened = True
            end.stream.attach(self, 0)

    def _is_lost(self, link: Link) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _answered(self, link: Link, message: Message) -> None:
        """Raises FieldError, which ends the stream."""
        answer = StreamOpened.read(message)
        assert self._end is not None
        stream = self._end.stream
        if answer.error == NO_STREAM:
            stream.abort()
            self.close()
        elif answer.error:
            # Also after another answer: a kernel that ends closes its sockets first, and is there
            # for a while. Nothing has arrived, and what waits is for the next process.
            self._end.opened = self._end.known = False
            stream.detach(self)
            self.stream = None
            self.close()
        else:
            self._end.known = True
            if stream.link is not self:
                stream.attach(self, answer.received)


def _close(spare: asyncio.Task[_ClientLink | None]) -> None:
    link = None if spare.cancelled() else spare.result()
    if link is not None:
        link.close()
