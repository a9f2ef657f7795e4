"""A client's stream: its end at the client on this machine, and its links to the kernel's agent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Protocol

from ..protocol import zmtp
from ..protocol.answers import NO_STREAM
from ..protocol.stream import Link, SocketEnd, Stream
from ..protocol.stream_opening import OpenStream, StreamOpened
from ..protocol.wire import Message
from .client_requests import ClientRequests, CutOff

#: How many bytes a socket may hold for its client. The system's default is less than we read at
#: once. The rest would be copied twice more.
_SEND_BYTES = 1024 * 1024
#: Channels whose messages we read. Not control: no order may reach a kernel's next process.
_READ_CHANNELS = ("shell", "stdin")
#: How long a client may take to close a connection that is over.
_CLOSE_SECONDS = 5.0


class Clients(Protocol):
    """All clients of one kernel."""

    closed: bool
    #: What clients sent to a killed agent, by channel.
    cut_off: Mapping[str, CutOff]

    def joined(self, end: LocalEnd) -> None:
        """A client has come."""

    async def carry(self, end: LocalEnd) -> None:
        """Carry a client's stream on one link after the other until it is over."""

    def left(self, end: LocalEnd) -> None:
        """A client has gone."""


class LocalEnd(SocketEnd):
    """A client on this machine. Nothing is read from it until the kernel is there."""

    def __init__(self, clients: Clients, request: OpenStream) -> None:
        super().__init__(Stream())
        self.request = request
        #: Whether something was sent to an agent, and whether the agent has answered.
        self.opened = self.known = False
        self._cut_off = False
        self._clients = clients
        self._task: asyncio.Task[None] | None = None
        self.requests: ClientRequests | None = None
        if request.channel in _READ_CHANNELS and request.greeted:
            self.requests = ClientRequests(clients.cut_off[request.channel])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        if self.requests is not None:
            self.stream.socket = self.requests.watching(self.transport)
        if self._clients.closed:  # accepted a moment ago
            self.stream.abort()
            return
        self.transport.pause_reading()
        if self.request.greeted:
            # The greeting of the kernel's socket, two round trips earlier. The agent leaves it out.
            kind = b"PUB" if self.request.channel == "iopub" else b"ROUTER"
            self.transport.write(zmtp.greeting(kind))
        self._clients.joined(self)
        self._task = asyncio.ensure_future(self._clients.carry(self))
        self._task.add_done_callback(self._carried)

    def data_received(self, data: bytes) -> None:
        if self.requests is not None:
            data = self.requests.sent(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._cut_off and self.requests is not None:
            self.requests.cut_off(self.stream.outgoing)
            self.stream.abort()
        if not self.opened and self._task is not None:
            self._task.cancel()

    def cut_off(self) -> None:
        """The agent of the stream was killed. Make the client close its connection, and connect
        again. What it sends until it notices is kept for its next connection.
        """
        if self.requests is None or self.transport is None:
            self.abort()
            return
        self._cut_off = True
        if self._task is not None:
            self._task.cancel()
        self.transport.write_eof()
        self.transport.resume_reading()
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self.stream.abort)

    def abort(self) -> None:
        self.stream.abort()
        if self._task is not None:
            self._task.cancel()

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._clients.left(self)


class ClientLink(Link):
    """A connection to the agent with this pid, for a client's stream."""

    def __init__(self, agent: int) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agent = agent
        self._end: LocalEnd | None = None
        super().__init__(self._answered, self._is_lost)

    def carry(self, end: LocalEnd) -> None:
        """Carry a client's stream as long as this connection lasts."""
        if end.stream.over:
            self.abort()
            return
        self._end = end
        request = end.request
        request.agent = request.agent or self._agent
        request.received, request.known = end.stream.received, end.known
        self.say(request)
        if not end.opened:  # nothing can have arrived yet, so there is no answer to wait for
            end.opened = True
            end.stream.attach(self, 0)

    def _is_lost(self, link: Link) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _answered(self, link: Link, message: Message) -> None:
        """Read the agent's answer. Raises FieldError, which ends the stream."""
        answer = StreamOpened.read(message)
        assert self._end is not None
        stream = self._end.stream
        if answer.error == NO_STREAM:
            stream.abort()
            self.close()
        elif answer.error:
            # This can follow a positive answer, because an ending kernel closes its sockets first.
            # Nothing has arrived, so the waiting data is for the next process.
            self._end.opened = self._end.known = False
            stream.detach(self)
            self.stream = None
            self.close()
        else:
            self._end.known = True
            if stream.link is not self:
                stream.attach(self, answer.received)
