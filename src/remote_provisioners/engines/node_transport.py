"""A node without a login, through its launcher (agent/bootstrap/node_launcher.py).

Connections use TLS 1.3, whichever side connects. This side shows the certificate whose fingerprint
the launcher knows, and the launcher sends the secret of its launch. Each stream has a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import ssl
from collections.abc import Callable, Sequence

from ..errors import AgentError, ForwardingError, UnreachableError
from ..hosts.transport import Completed, Endpoint, Transport
from ..protocol.keep_alive import keep_alive
from .certificate import identity
from .node_address import NodeAddress

_SECONDS = 5.0
#: No line of a launcher is as long.
_MOST_BYTES = 64 * 1024


async def connect_node(address: NodeAddress, python: str = "") -> Transport:
    """Connect to a launcher. Raises UnreachableError. If it is gone, `open` reports it."""
    transport = NodeTransport(address)
    with contextlib.suppress(ConnectionRefusedError):
        transport.spare = await transport.dial()
    return transport


class NodeTransport(Transport):
    """Connections to one launcher."""

    def __init__(self, address: NodeAddress) -> None:
        self._address = address
        self._closed = asyncio.Event()
        self.spare: _Opening | None = None

    async def dial(self) -> _Opening:
        """An authenticated connection. Raises UnreachableError, OSError."""
        try:
            opening = await asyncio.wait_for(self._dial(), _SECONDS)
        except ConnectionRefusedError:
            raise
        except (OSError, ssl.SSLError, asyncio.TimeoutError) as error:
            raise UnreachableError(f"its launcher does not answer: {error!r}") from None
        secret = await opening.answer()
        if not hmac.compare_digest(secret, self._address.secret.encode()):
            opening.transport.abort()
            raise ConnectionRefusedError("another launcher listens there now")
        return opening

    async def _dial(self) -> _Opening:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._address.host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            keep_alive(connection)
            await loop.sock_connect(connection, (self._address.host, self._address.port))
            _, opening = await loop.connect_accepted_socket(
                _Opening, connection, ssl=identity().context
            )
        except BaseException:
            connection.close()
            raise
        return opening

    async def run(self, argv: Sequence[str], stdin: bytes, after: bytes = b"") -> Completed:
        raise AgentError("commands cannot run on a node")

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        opening, self.spare = self.spare, None
        opening = opening or await self.dial()
        opening.transport.write(f"{endpoint}\n".encode())
        if await opening.answer() != b"+":
            opening.transport.abort()
            raise ConnectionRefusedError(f"nothing listens on {endpoint}")
        protocol = protocol_factory()
        opening.become(protocol)
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        raise ForwardingError("a node cannot reach a socket of the server")

    async def wait_closed(self) -> str:
        await self._closed.wait()
        return "closed"

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._closed.set()
        if self.spare is not None:
            self.spare.transport.abort()
            self.spare = None


class _Opening(asyncio.Protocol):
    """A connection that carries lines until it becomes a stream."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""
        self._changed = asyncio.Event()
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _MOST_BYTES and b"\n" not in self._received:
            self.transport.abort()  # it is no launcher
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._changed.set()

    async def answer(self) -> bytes:
        """The next line. If there is none, closes the connection. Raises UnreachableError."""
        try:
            return await asyncio.wait_for(self._line(), _SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            self.transport.abort()
            raise UnreachableError(f"its launcher does not answer: {error!r}") from None
        except BaseException:
            self.transport.abort()
            raise

    async def _line(self) -> bytes:
        """Raises ConnectionError."""
        while b"\n" not in self._received:
            if self._lost:
                raise ConnectionResetError("closed by the other side")
            self._changed.clear()
            await self._changed.wait()
        line, _, self._received = self._received.partition(b"\n")
        return line

    def become(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to this protocol."""
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self._received:
            protocol.data_received(self._received)
        if self._lost:
            protocol.connection_lost(None)
