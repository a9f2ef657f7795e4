"""Host addresses, and how to parse them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigurationError
from .way_in import COMMAND, DEFAULT_WAY, WayIn

FORMS = "host, user@host, user@host:port, an SSH alias, an IPv4 or [IPv6] address, localhost"

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
# Like OpenSSH: a user name must not look like an option or contain shell characters.
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@\\+$-]*")


@dataclass(frozen=True)
class HostAddress:
    """A host to reach. An empty user or port 0 leaves the choice to ~/.ssh/config or SSH."""

    host: str
    user: str = ""
    port: int = 0
    #: Each way and each user has its own connection.
    way: WayIn = DEFAULT_WAY

    #: The function that connects to such an address, if `way` does not say it: "module:name" within
    #: this package. It gets the address and the Python there, and returns a Transport.
    connector: ClassVar[str] = ""

    @property
    def is_temporary(self) -> bool:
        """Whether it exists for one kernel, and is forgotten with it."""
        return False

    @property
    def brings_agent(self) -> bool:
        """Whether its agent is started there and never by us."""
        return False

    @property
    def is_of_engine(self) -> bool:
        """Whether an engine has chosen it for one kernel."""
        return self.is_temporary or self.brings_agent

    @property
    def agent_seconds(self) -> float:
        """Seconds that an agent may take to start there, or to start again, if we do not do it."""
        return 0.0

    @property
    def is_here(self) -> bool:
        """Plain ``localhost`` is this machine, reached without SSH."""
        plain = self.host == "localhost" and not self.user and not self.port
        return plain and self.way.kind != COMMAND

    @property
    def is_local(self) -> bool:
        """Whether it is this machine and this user."""
        return self.is_here and not self.way.run_as

    @property
    def label(self) -> str:
        """The text for logs: the host, and the user that kernels run as if it is another one."""
        return f"{self} as {self.way.run_as}" if self.way.run_as else str(self)

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{user}{host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class InnerAddress(HostAddress):
    """A node that a program of another host leads to, such as a job of a cluster.

    The program runs the words after its own on the node. Whoever made the node starts its agent.
    """

    #: The host that runs the program; localhost is this machine.
    through: HostAddress = HostAddress("localhost")
    words: tuple[str, ...] = ()

    connector = "hosts.gateways:connect_inner"

    @property
    def brings_agent(self) -> bool:
        return True

    @property
    def agent_seconds(self) -> float:
        return 10.0

    @property
    def is_here(self) -> bool:
        return False


def parse_address(text: str) -> HostAddress:
    """Parse a host as written by a user. Raises ConfigurationError."""
    port: str | None
    user, at, rest = text.strip().rpartition("@")
    if at and not _USER.fullmatch(user.replace("{username}", "u")):
        raise _unreadable(text, f"{user!r} is not a user name")
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ipv6(host):
            raise _unreadable(text, "there is no IPv6 address between the brackets")
        port = rest[1:] if rest else None
    elif _is_ipv6(rest):
        host, port = rest, None
    else:
        host, colon, after = rest.partition(":")
        port = after if colon else None
        if not _NAME.fullmatch(host):
            raise _unreadable(text, f"{host!r} is not a host name")
    return HostAddress(host, user, _port(text, port) if port is not None else 0)


def _port(text: str, port: str) -> int:
    if not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= 65535):
        raise _unreadable(text, f"{port!r} is not a port (1 to 65535)")
    return int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text), ipaddress.IPv6Address)
    except ValueError:
        return False


def _unreadable(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"cannot read the host {text!r}: {why} (valid: {FORMS})")
