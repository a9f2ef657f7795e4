"""How to reach a host: its settings in ~/.ssh/config, and a TCP probe."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from ...errors import UnknownHostError, UnreachableError
from ...hosts.transport.ssh.reading import read_configuration
from ...placement.host_address import HostAddress


@dataclass(frozen=True)
class Route:
    """Where to connect. `proxy` names the proxy, "" for a direct connection. `only_openssh`: the
    keyword that only the ssh program can follow, "" for none."""

    host: str
    port: int
    user: str
    proxy: str
    only_openssh: str = ""

    async def resolve(self) -> list[str]:
        """The IP addresses of the host. Raises UnknownHostError."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise UnknownHostError(f"{self.host!r} does not resolve ({why})") from None
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def greeting(self) -> str:
        """The first line from the port, its SSH version. Raises UnreachableError."""
        where = f"{self.host} port {self.port}"
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except ConnectionRefusedError:
            raise UnreachableError(f"{where} refuses connections") from None
        except OSError as error:
            raise UnreachableError(f"{where}: {error.strerror or error}") from None
        try:
            line = (await reader.readline()).decode("ascii", "replace").strip()
        except (OSError, ValueError) as error:
            raise UnreachableError(f"{where} answers, then fails: {error}") from None
        finally:
            writer.close()
        if not line.startswith("SSH-"):
            raise UnreachableError(f"{where} answers, but not as an SSH server: {line[:60]!r}")
        return line


async def read_route(address: HostAddress) -> Route:
    """Look the host up in the SSH configuration. Raises UnreachableError if that is invalid."""
    read = await read_configuration(address)
    proxy = f"ProxyCommand {read.proxy_command}" if read.proxy_command else ""
    if read.jumps:
        proxy = f"ProxyJump {','.join(read.jumps)}"
    return Route(read.host, read.port, read.user, proxy, read.only_openssh)
