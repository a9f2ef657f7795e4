"""One connection of asyncssh: made within a time limit for each phase, and watched.

asyncssh has one limit for all phases, and it does not report how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from typing import Any

import asyncssh

from ..ssh import login_errors
from ..ssh.ciphers import AES, has_aes
from ..ssh.configuration import SSHConfiguration
from ..ssh.login_errors import Phase, answer_seconds, what_is_late
from .proxy_command import ProxyCommand

_ACKNOWLEDGE_SECONDS = 0.002
#: We give up a host that is silent for this many keep-alive intervals.
KEEPALIVE_SECONDS = 5.0
KEEPALIVE_COUNT = 3

_logger = logging.getLogger("asyncssh")
if _logger.level == logging.NOTSET:  # at INFO it logs each channel, in the server's own log
    _logger.setLevel(logging.WARNING)


class Client(asyncssh.SSHClient):
    """Remembers why the connection was lost; turns off delayed acknowledgements while it is new.

    Linux delays an acknowledgement by 40 ms, in case it can send data along. Meanwhile sshd holds
    back its next data (Nagle's algorithm). That took half of the time of a login and its first
    command.
    """

    why_closed = "closed"
    is_new = True
    #: The host takes keys, but it has taken none of ours.
    refused_keys = False
    _made: asyncssh.SSHClientConnection | None = None

    def __init__(self) -> None:
        #: Login methods that the host asks for and that need a person.
        self.wanted: list[str] = []
        #: The text that the host shows at a login: sshd's Banner, or PAM's.
        self.banner = ""
        #: The ProxyCommand that carries the connection.
        self.proxy: ProxyCommand | None = None
        self._proxy_said = ""
        self._ended_proxy: ProxyCommand | None = None

    def public_key_auth_requested(self) -> None:
        self.refused_keys = True

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.banner += msg

    def kbdint_auth_requested(self) -> None:
        self.wanted.append("keyboard-interactive")

    def password_auth_requested(self) -> None:
        self.wanted.append("password")

    @property
    def phase(self) -> Phase:
        """How far the login has come. With a ProxyCommand, the connection is the command's."""
        if self._made is None:
            return Phase.BEGUN
        if self._made.get_extra_info("send_cipher"):
            return Phase.KEYS_EXCHANGED
        return Phase.ANSWERED if self._made.get_extra_info("server_version") else Phase.CONNECTED

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._made = conn
        found = conn.get_extra_info("socket")  # there is none behind a ProxyCommand
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            self._acknowledge(found, time.monotonic() + login_errors.LOGIN_SECONDS)

    def _acknowledge(self, found: socket.socket, until: float) -> None:
        if self.is_new and time.monotonic() < until and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):  # it is closed
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                loop = asyncio.get_running_loop()
                loop.call_later(_ACKNOWLEDGE_SECONDS, self._acknowledge, found, until)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.why_closed = reason_of(exc)
        self.end_proxy()

    def end_proxy(self) -> str:
        """End the ProxyCommand, if there is one. Returns the end of what it wrote to stderr."""
        proxy, self.proxy = self.proxy, None
        if proxy is not None:
            self._proxy_said = proxy.said()
            proxy.end()
            self._ended_proxy = proxy
        return self._proxy_said

    async def proxy_ended(self) -> None:
        """Return when the ProxyCommand has ended."""
        self.end_proxy()
        if self._ended_proxy is not None:
            await self._ended_proxy.ended()


class Refused(Exception):
    """The host does not let us in; `client` knows which methods it wants."""

    def __init__(self, said: str, client: Client) -> None:
        super().__init__(said)
        self.client = client


class Late(Exception):
    """A time limit has passed; the text says which one, and what the reason may be."""


#: A connection, and the client object that has watched it from the beginning.
Login = tuple[asyncssh.SSHClientConnection, Client]


async def connect(client: Client, host: str, options: dict[str, Any]) -> Login:
    """Connect, with a time limit for each phase: asyncssh has one for all. Raises Late.

    An answer that arrived within a limit counts, even if this loop reads it later. The second
    limit begins when the first one ends: asyncssh does not report when a server answers.
    """
    proxied = client.proxy is not None
    making = asyncio.ensure_future(asyncssh.create_connection(lambda: client, host, **options))
    try:
        await asyncio.wait([making], timeout=answer_seconds(proxied))
        if not making.done() and client.phase >= Phase.ANSWERED:
            await asyncio.wait([making], timeout=login_errors.LOGIN_SECONDS)
        if not making.done():
            raise Late(what_is_late(client.phase, proxied))
        return making.result()[0], client
    except asyncssh.PermissionDenied as error:
        raise Refused(reason_of(error), client) from None
    except BaseException:
        making.cancel()
        making.add_done_callback(_drop)
        raise


def _drop(making: asyncio.Task[tuple[asyncssh.SSHClientConnection, asyncssh.SSHClient]]) -> None:
    """Close a connection that nobody waits for any more."""
    if not making.cancelled() and making.exception() is None:
        making.result()[0].abort()


def connection_options(read: SSHConfiguration) -> dict[str, Any]:
    """The options for asyncssh. It reads no configuration file itself."""
    return {
        "config": None,
        "port": read.port,
        "username": read.user,
        "host_key_alias": read.host_key_alias or None,
        "agent_path": None,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_COUNT,
        # We set the time limits: see connect.
        "connect_timeout": None,
        "login_timeout": 0,
        "send_env": None,  # nothing of the server's environment
        **({"encryption_algs": "^" + ",".join(AES)} if has_aes() else {}),
        **read.options,
        **read.algorithms,
    }


def reason_of(error: BaseException) -> str:
    """The text of an error of asyncssh or the system."""
    text = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    return str(text) or type(error).__name__
