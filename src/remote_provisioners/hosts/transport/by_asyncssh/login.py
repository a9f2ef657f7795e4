"""Logging in to a host by SSH, with asyncssh.

`ssh/reading.py` reads the user's SSH configuration as OpenSSH does, `keys.py` loads the keys. Host
keys are always checked, even if the configuration turns that off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import replace
from typing import Any

import asyncssh

from ....errors import (
    AuthenticationError,
    HostError,
    HostKeyError,
    UnknownHostError,
    UnreachableError,
)
from ....placement.host_address import HostAddress
from ....placement.way_in import AUTOMATIC, WayIn
from ..pipe.errors import last_lines
from ..ssh import login_errors
from ..ssh.ciphers import AES, has_aes
from ..ssh.configuration import SSHConfiguration
from ..ssh.login_errors import (
    Phase,
    answer_seconds,
    key_changed,
    key_revoked,
    key_unknown,
    no_key_accepted,
    not_forwarded,
    port_refused,
    proxy_said,
    what_is_late,
)
from ..ssh.reading import read_configuration
from .algorithms import usable
from .jumps import circle, jump_address
from .keys import KnownHosts, usable_keys
from .proxy_command import ProxyCommand

_ACKNOWLEDGE_SECONDS = 0.002
#: We give up a host that is silent for this many keep-alive intervals.
KEEPALIVE_SECONDS = 5.0
KEEPALIVE_COUNT = 3
_OTHER_WAY = 'Perhaps asyncssh and sshd have no algorithm in common: set `connect = "openssh"`.'
#: Characters that a user name must not contain when a ProxyCommand may use it (%r).
_SHELL_ACTS_ON = set("$\\`;&|<>()")

_logger = logging.getLogger("asyncssh")
if _logger.level == logging.NOTSET:  # at INFO it logs each channel, in the server's own log
    _logger.setLevel(logging.WARNING)


class _Client(asyncssh.SSHClient):
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


class OnlyOpenSSH(Exception):
    """Only OpenSSH's own program can connect. The text says why, for the log."""


async def log_in(address: HostAddress) -> list[Login]:
    """Connect and log in: first to the jump hosts, each through the one before, then to the host.

    Returns the logins in that order. Raises a HostError, or OnlyOpenSSH if the way in is automatic.
    """
    opened: list[Login] = []
    try:
        await _open(address, opened)
    except BaseException:
        for connection, _ in reversed(opened):
            connection.abort()
        raise
    return opened


async def _read(address: HostAddress) -> tuple[SSHConfiguration, KnownHosts]:
    """The configuration of a host, with algorithms that asyncssh has, and the known keys.

    Raises HostError, or OnlyOpenSSH if the way in is automatic.
    """
    name = str(address)
    try:
        read = await read_configuration(address)
    except UnreachableError as error:
        raise error.at(name) from None
    except (OSError, ValueError) as error:
        text = f"the SSH configuration cannot be read ({reason_of(error)})"
        raise UnreachableError(text, host=name) from None
    automatic = address.way.kind == AUTOMATIC
    if automatic and read.only_openssh:
        raise OnlyOpenSSH(f"{read.only_openssh} in its SSH configuration")
    try:
        read = replace(read, algorithms=usable(read.algorithms))
    except UnreachableError as error:
        if automatic:
            raise OnlyOpenSSH("an algorithm that asyncssh lacks in its SSH configuration") from None
        raise error.at(name) from None
    try:
        return read, await asyncio.to_thread(KnownHosts, read)
    except (OSError, ValueError) as error:
        if automatic:  # the program can read it, or says what is wrong
            raise OnlyOpenSSH("RevokedHostKeys in its SSH configuration") from None
        raise HostKeyError(
            f"RevokedHostKeys {read.revoked_host_keys!r} cannot be read ({reason_of(error)}):\n"
            "asyncssh reads a list of public keys only",
            host=name,
        ) from None


async def _open(
    address: HostAddress, opened: list[Login], through: bool = False, after: tuple[str, ...] = ()
) -> None:
    """Log in to `address` and append that to `opened`; `through`: go through its last login.

    We connect to jump hosts here: asyncssh would check their keys in its own way.
    `after`: the hosts whose configuration has led here.
    """
    name = str(address)
    read, known = await _read(address)
    options = {**_options(read), "known_hosts": known.match}
    if not through:
        after = (*after, address.host)
        for number, hop in enumerate(read.jumps):
            try:
                jump = jump_address(hop)
                if number == 0 and jump.host in after:
                    raise circle(jump.host)
                jump = replace(jump, way=WayIn(address.way.kind))
                await _open(jump, opened, number > 0, after)
            except HostError as error:
                raise type(error)(f"jump host {hop}: {error.message}", host=name) from None
            through = True
    if through and opened:
        options["tunnel"], _ = opened[-1]
    client = _Client()
    if read.proxy_command and not through:
        if _SHELL_ACTS_ON & set(read.user):
            text = f"the user name {read.user!r} cannot be a word of its ProxyCommand"
            raise UnreachableError(text, host=name)
        client.proxy = ProxyCommand(read.proxy_command)
    async with usable_keys(read) as keys:
        try:
            if client.proxy is not None:
                options["sock"] = await client.proxy.start()
            opened.append(
                await _log_in_once(client, read.host, options | {"client_keys": keys or None})
            )
        except BaseException as error:
            said_by_proxy = client.end_proxy()
            await asyncio.shield(client.proxy_ended())
            if _do_not_agree(client, error):
                if address.way.kind == AUTOMATIC:
                    raise OnlyOpenSSH("asyncssh and its sshd have no algorithm in common") from None
                raise UnreachableError(f"{reason_of(error)}.\n{_OTHER_WAY}", host=name) from None
            # ValueError: asyncssh raises it for a key that it cannot read.
            if isinstance(error, (_Late, _Refused, OSError, asyncssh.Error, ValueError)):
                told = _translated(error, read, known, said_by_proxy)
                raise _with_banner(told, client.banner).at(name) from None
            raise


def _do_not_agree(client: _Client, error: BaseException) -> bool:
    """Whether the two sides have probably no algorithm in common.

    sshd hangs up then, and we may read that before we see it ourselves. The program says what is
    wrong in any case.
    """
    if isinstance(error, asyncssh.HostKeyNotVerifiable) or client.phase != Phase.ANSWERED:
        return False
    return isinstance(error, (asyncssh.Error, ConnectionError))


def _with_banner(error: HostError, banner: str) -> HostError:
    """Put the host's own text before the error: it may name the reason."""
    said = last_lines(banner)
    return type(error)(f"it says: {said}\n{error.message}") if said else error


def _translated(
    error: Exception, read: SSHConfiguration, known: KnownHosts, said_by_proxy: str
) -> HostError:
    """Translate the error of a connection into one of ours."""
    if said_by_proxy and not isinstance(error, (_Late, _Refused, asyncssh.HostKeyNotVerifiable)):
        return UnreachableError(proxy_said(said_by_proxy))
    if isinstance(error, _Late):
        return UnreachableError(str(error))
    if isinstance(error, _Refused):
        return AuthenticationError(_why_refused(error, read.name))
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostKeyError(_host_key_advice(read, known, reason_of(error)))
    if isinstance(error, socket.gaierror):
        return UnknownHostError(f"the name does not resolve ({error.strerror})")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(port_refused(read.port))
    if isinstance(error, asyncssh.ChannelOpenError):
        forbidden = error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        return UnreachableError(not_forwarded(reason_of(error), forbidden))
    return UnreachableError(f"cannot connect: {reason_of(error)}")


class _Refused(Exception):
    """The host does not let us in; `client` knows which methods it wants."""

    def __init__(self, said: str, client: _Client) -> None:
        super().__init__(said)
        self.client = client


class _Late(Exception):
    """A time limit has passed; the text says which one, and what the reason may be."""


#: A connection, and the client object that has watched it from the beginning.
Login = tuple[asyncssh.SSHClientConnection, _Client]


async def _log_in_once(client: _Client, host: str, options: dict[str, Any]) -> Login:
    """Connect, with a time limit for each phase: asyncssh has one for all. Raises _Late.

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
            raise _Late(what_is_late(client.phase, proxied))
        return making.result()[0], client
    except asyncssh.PermissionDenied as error:
        raise _Refused(reason_of(error), client) from None
    except BaseException:
        making.cancel()
        making.add_done_callback(_drop)
        raise


def _why_refused(error: _Refused, name: str) -> str:
    client, said = error.client, str(error)
    if client.refused_keys or not client.wanted:
        return no_key_accepted(name, "", said)
    return (
        f"the host wants {' or '.join(client.wanted)} besides a key or instead of one ({said}):\n"
        f"the server cannot answer its questions. Set ControlPath in ~/.ssh/config,\n"
        f"leave the option `connect` empty and run `jupyter remote login {name}`.\n"
        f"Or let the host accept a key alone"
    )


def _drop(making: asyncio.Task[tuple[asyncssh.SSHClientConnection, asyncssh.SSHClient]]) -> None:
    """Close a connection that nobody waits for any more."""
    if not making.cancelled() and making.exception() is None:
        making.result()[0].abort()


def _options(read: SSHConfiguration) -> dict[str, Any]:
    """The options for asyncssh. It reads no configuration file itself."""
    return {
        "config": None,
        "port": read.port,
        "username": read.user,
        "host_key_alias": read.host_key_alias or None,
        "agent_path": None,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_COUNT,
        # We set the time limits: see _log_in_once.
        "connect_timeout": None,
        "login_timeout": 0,
        "send_env": None,  # nothing of the server's environment
        **({"encryption_algs": "^" + ",".join(AES)} if has_aes() else {}),
        **read.options,
        **read.algorithms,
    }


def _host_key_advice(read: SSHConfiguration, known: KnownHosts, said: str) -> str:
    keys, authorities, *_ = known.keys()
    where = ", ".join(known.files) or ", ".join(read.known_hosts) or "no known_hosts file"
    if "revoked" in said:
        return key_revoked(said)
    if "expired" in said or "not yet valid" in said:
        return f"{said}: the host needs a new certificate"
    if "CA key" in said and not keys:
        if not authorities:
            return (
                f"the host shows a certificate of an authority that is unknown ({said}).\n"
                f"Add its key with @cert-authority to {where}"
            )
        return f"the host's certificate is of another authority than the known one ({said})"
    if keys or authorities:
        return key_changed(read.key_name, said, where)
    return key_unknown(read.name, said, where)


def reason_of(error: BaseException) -> str:
    """The text of an error of asyncssh or the system."""
    text = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    return str(text) or type(error).__name__
