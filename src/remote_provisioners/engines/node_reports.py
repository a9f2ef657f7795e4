"""Receive the reports of launchers, for engines whose nodes can connect to this server."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import HostError
from ..io_thread import io_thread
from ..placement.host_address import HostAddress
from .base import Node
from .certificate import identity
from .node_address import NodeAddress

log = logging.getLogger(__name__)

_REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class DialledNode(Node):
    """A node whose launcher listens on a port and identifies itself with a secret."""

    port: int
    secret: str = field(repr=False)

    @property
    def address(self) -> HostAddress:
        return NodeAddress(self.host, port=self.port, secret=self.secret)


class NodeReports:
    """The TLS servers for reports. Each launcher must send the secret of its launch."""

    def __init__(self) -> None:
        self._awaited: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._opening = asyncio.Lock()

    async def address(self, wanted: str, towards: str) -> str:
        """HOST:PORT for launchers: `wanted` (host or host:port), or the address towards a URL.

        Raises HostError.
        """
        host, _, port = wanted.partition(":")
        key = wanted or towards
        async with self._opening:
            if key not in self._servers:
                host = host or await asyncio.to_thread(_own_address, towards)
                try:
                    self._servers[key] = await asyncio.start_server(
                        self._serve, host, int(port or 0), ssl=identity().context
                    )
                except (OSError, OverflowError, ValueError) as error:
                    text = f"cannot listen for reports at {wanted or host}: {error}"
                    raise HostError(text) from None
        bound = self._servers[key].sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    def expect(self, secret: str) -> asyncio.Future[dict[str, Any]]:
        """Expect a launcher with this secret. The future gets its report."""
        future = self._awaited[secret] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, secret: str) -> None:
        """Expect no launcher with this secret any more."""
        self._awaited.pop(secret, None)

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _REPORT_SECONDS)
            writer.write(json.dumps(self._answer(json.loads(line))).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TypeError, KeyError, asyncio.TimeoutError) as error:
            log.warning("cannot read a launcher's report: %r", error)
        finally:
            writer.close()

    def _answer(self, report: dict[str, Any]) -> dict[str, Any]:
        given = str(report["secret"]).encode()
        for secret, future in self._awaited.items():
            if hmac.compare_digest(given, secret.encode()) and not future.done():
                future.set_result(report)
                return {"ok": True}
        log.warning("refused a launcher with a wrong secret")
        return {"error": "not a launcher that is awaited"}


def _own_address(url: str) -> str:
    """This machine's address towards the host of `url`. Raises HostError."""
    host = urlsplit(url).hostname or ""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise HostError(f"{host} cannot be reached: {error}") from None


async def node_reports() -> NodeReports:
    """The reports of this process. Call this in the I/O thread, which closes them at its end."""
    return io_thread().own(NodeReports)
