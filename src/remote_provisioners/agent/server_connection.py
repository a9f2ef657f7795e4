"""One server process, as its agent sees it: requests in, answers and events out.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set

from ..protocol.wire import Decoder, Message, WireError, encode
from .kernels.hosted_kernel import HostedKernel, StartError

if TYPE_CHECKING:
    from .agent import Agent


class Peer(asyncio.Protocol):
    """The connection of one server process."""

    def __init__(self, agent: Agent) -> None:
        self.owner = ""
        self.left = False
        #: What it has asked to start and has no answer for yet.
        self.starts: Set[HostedKernel] = set()
        #: The ids of kernels that it looks at, whoever owns them.
        self.attached: Set[str] = set()
        self._agent = agent
        self._decoder = Decoder()
        self._transport: Optional[asyncio.Transport] = None
        self._tasks: List[asyncio.Task[None]] = []

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not same_user(transport.get_extra_info("socket")):
            transport.abort()
            return
        self._transport = transport
        self._agent.peers.add(self)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._agent.disconnected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                task = asyncio.ensure_future(self._answer(message))
                self._tasks = [t for t in self._tasks if not t.done()] + [task]
        except WireError as error:
            self.send({"error": {"code": "bad-request", "message": str(error)}})
            if self._transport is not None:
                self._transport.close()

    async def _answer(self, message: Message) -> None:
        answer: Dict[str, Any] = {"id": message.get("id")}
        try:
            operation = getattr(self._agent, "op_" + str(message.get("op")), None)
            if operation is None:
                raise StartError("bad-request", "unknown operation {!r}".format(message.get("op")))
            answer["result"] = await operation(self, message)
        except StartError as error:
            answer["error"] = {"code": error.code, "message": str(error)}
        except Exception as error:  # whatever it is, the server must not wait for an answer
            answer["error"] = {"code": "internal", "message": repr(error)}
        self.send(answer)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(encode(message))


def same_user(connection: Any) -> bool:
    """Whether the peer of a unix socket is our own user: the socket's mode says so already."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())
