"""How a host is written, and what the words mean."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from .way_in import COMMAND, DEFAULT_WAY, WayIn

FORMS = "host, user@host, user@host:port, an SSH alias, an IPv4 or [IPv6] address, localhost"

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
# As OpenSSH: a user name may not look like an option and has no characters that shells act on.
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@\\+$-]*")


@dataclass(frozen=True)
class HostAddress:
    """A host to reach. Empty user or port 0: as ~/.ssh/config or SSH's defaults say."""

    host: str
    user: str = ""
    port: int = 0
    #: One connection for each way and each user.
    way: WayIn = DEFAULT_WAY

    @property
    def is_here(self) -> bool:
        """Plain ``localhost`` is this machine, reached without SSH."""
        plain = self.host == "localhost" and not self.user and not self.port
        return plain and self.way.kind != COMMAND

    @property
    def is_local(self) -> bool:
        """It is this machine and this user."""
        return self.is_here and not self.way.run_as

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{user}{host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class NodeAddress(HostAddress):
    """A launcher on a node that nobody can log in to: where it listens, what it proves."""

    secret: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.host


def parse_address(text: str) -> HostAddress:
    """Read a host as a person writes it. Raises ConfigurationError."""
    port: str | None
    user, at, rest = text.strip().rpartition("@")
    if at and not _USER.fullmatch(user.replace("{username}", "u")):
        raise _unreadable(text, f"{user!r} is no user name")
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ipv6(host):
            raise _unreadable(text, "no IPv6 address between brackets")
        port = rest[1:] if rest else None
    elif _is_ipv6(rest):
        host, port = rest, None
    else:
        host, colon, after = rest.partition(":")
        port = after if colon else None
        if not _NAME.fullmatch(host):
            raise _unreadable(text, f"{host!r} is no host name")
    return HostAddress(host, user, _port(text, port) if port is not None else 0)


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise _unreadable(text, f"{port!r} is no port (1 to 65535)")
    return int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text), ipaddress.IPv6Address)
    except ValueError:
        return False


def _unreadable(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"cannot read the host {text!r}: {why} (write: {FORMS})")
