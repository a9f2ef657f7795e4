"""A host by SSH. The only module that knows asyncssh.

asyncssh reads ~/.ssh/config (aliases, User, Port, IdentityFile, ProxyJump, ProxyCommand,
certificates, the SSH agent). Two things are ours: host keys are checked whatever the
configuration says, and the system-wide files that OpenSSH reads are read as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import asyncssh
from asyncssh.known_hosts import match_known_hosts

from ...errors import (
    AuthenticationError,
    ForwardingError,
    HostError,
    HostKeyError,
    UnknownHostError,
    UnreachableError,
    forwarding_advice,
)
from ...placement.host_address import HostAddress, parse_address
from .base import Completed, Endpoint, Transport

#: Until an SSH server has answered at all: a host that is silent for longer is gone.
CONNECT_SECONDS = 5.0
#: For the key exchange and the login after that: a host may be busy, a directory of users slow.
LOGIN_SECONDS = 15.0
#: A ProxyCommand may connect and log in somewhere itself before the host can answer.
_PROXY_SECONDS = CONNECT_SECONDS + LOGIN_SECONDS
_ACKNOWLEDGE_SECONDS = 0.002
#: A host that is silent for three of these is gone.
KEEPALIVE_SECONDS = 5.0

_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_CONFIGS = ("~/.ssh/config", "/etc/ssh/ssh_config")
# In OpenSSH's words; AES first, which processors do in hardware.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


class SSHTransport(Transport):
    """One SSH connection, and those to the jump hosts that it goes through."""

    def __init__(self, logins: Sequence[_Login]) -> None:
        """`logins`: through each to the next; the last one is on the host."""
        # Not asked of the connections: they forget them when they are closed.
        self._clients = [client for _, client in logins]
        *self._jumps, self._connection = [connection for connection, _ in logins]
        self._listeners: dict[str, asyncssh.SSHListener] = {}
        self._exposing = asyncio.Lock()

    async def run(self, argv: Sequence[str], stdin: bytes) -> Completed:
        # sshd hands a command to the login shell: each word is quoted, and none is a user's.
        command = " ".join(shlex.quote(word) for word in argv)
        try:
            process = await self._connection.create_process(
                command, encoding=None, request_pty=False
            )
            with contextlib.suppress(BrokenPipeError):  # it has ended already: its output says why
                process.stdin.write(stdin)
                process.stdin.write_eof()
            done = await process.wait()
            for client in self._clients:
                client.is_new = False
        except (OSError, asyncssh.Error) as error:
            raise UnreachableError(f"cannot run a command: {_said(error)}") from None
        return Completed(
            None if done.exit_signal else done.exit_status,
            cast(bytes, done.stdout or b""),
            cast(bytes, done.stderr or b""),
        )

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        protocol = protocol_factory()

        def session() -> Any:
            return _Session(protocol)

        try:
            if isinstance(endpoint, str):
                await self._connection.create_unix_connection(session, endpoint)
            else:
                await self._connection.create_connection(session, "127.0.0.1", endpoint)
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise ForwardingError(forwarding_advice(_said(error))) from None
            raise ConnectionRefusedError(f"{endpoint}: {error.reason}") from None
        except (OSError, asyncssh.Error) as error:
            raise ConnectionError(_said(error)) from None
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        async with self._exposing:  # of two that ask at once sshd would refuse the second
            if host_path not in self._listeners:
                await self._listen_there(host_path, local_path)
        return host_path

    async def _listen_there(self, host_path: str, local_path: str) -> None:
        try:
            self._listeners[host_path] = await self._connection.forward_remote_path(
                host_path, local_path
            )
        except asyncssh.ChannelListenError as error:
            raise ForwardingError(forwarding_advice(_said(error))) from None
        except (OSError, asyncssh.Error) as error:
            raise UnreachableError(_said(error)) from None

    async def wait_closed(self) -> str:
        await self._connection.wait_closed()
        return self._clients[-1].why_closed

    async def close(self) -> None:
        for connection in (self._connection, *reversed(self._jumps)):
            connection.close()
            await connection.wait_closed()

    def abort(self) -> None:
        for connection in (self._connection, *reversed(self._jumps)):
            connection.abort()


class _Client(asyncssh.SSHClient):
    """Remembers why the connection was lost; has it acknowledge at once while it is new.

    Linux delays an acknowledgement by 40 ms, in the hope of something to send along, and for that
    long sshd withholds what it has to say next (Nagle's algorithm): of a login and the first
    command after it that was half of the time.
    """

    why_closed = "closed"
    is_new = True
    _made: asyncssh.SSHClientConnection | None = None

    @property
    def connected(self) -> bool:
        """Something takes connections there; behind a ProxyCommand: the command has started."""
        return self._made is not None

    @property
    def answered(self) -> bool:
        """It has introduced itself as an SSH server."""
        return self._made is not None and bool(self._made.get_extra_info("server_version"))

    @property
    def keys_exchanged(self) -> bool:
        return self._made is not None and bool(self._made.get_extra_info("send_cipher"))

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._made = conn
        found = conn.get_extra_info("socket")  # there is none behind a ProxyCommand
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            self._acknowledge(found, time.monotonic() + LOGIN_SECONDS)

    def _acknowledge(self, found: socket.socket, until: float) -> None:
        if self.is_new and time.monotonic() < until and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):  # it is closed
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                loop = asyncio.get_running_loop()
                loop.call_later(_ACKNOWLEDGE_SECONDS, self._acknowledge, found, until)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.why_closed = _said(exc)


class _Session(asyncssh.SSHUNIXSession[bytes], asyncssh.SSHTCPSession[bytes]):
    """An SSH channel under an asyncio protocol: the two interfaces differ by an argument."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[assignment,method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, chan: Any) -> None:
        self._protocol.connection_made(chan)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._protocol.data_received(data)


async def connect_ssh(address: HostAddress) -> SSHTransport:
    """Connect and log in, through jump hosts where configured. Raises a HostError."""
    opened: list[_Login] = []
    try:
        await _open(address, opened)
    except BaseException:
        for connection, _ in reversed(opened):
            connection.abort()
        raise
    return SSHTransport(opened)


async def _open(address: HostAddress, opened: list[_Login], through: bool = False) -> None:
    """Append a login to `opened`, `through` its last one or as configured.

    Jump hosts are connected to here: asyncssh would check their keys its own way.
    """
    name = str(address)
    try:
        read = read_configuration(address)
        if isinstance(read.tunnel, str) and read.tunnel and not through:
            for number, hop in enumerate(read.tunnel.split(",")):
                try:
                    await _open(parse_address(hop), opened, through=number > 0)
                except HostError as error:
                    raise type(error)(f"jump host {hop}: {error.message}", host=name) from None
            through = True
    except (OSError, asyncssh.Error, ValueError) as error:
        raise UnreachableError(f"the SSH configuration: {_said(error)}", host=name) from None
    known_hosts = _known_hosts(read)
    options = {**_options(address), **_keys(read), "known_hosts": known_hosts or b""}
    if through:
        options["tunnel"], _ = opened[-1]
    if not read.config.get("Ciphers"):
        options["encryption_algs"] = _CIPHERS
    proxied = bool(read.proxy_command) and not through
    try:
        opened.append(await _log_in(address.host, options, proxied))
    except _Late as error:
        raise UnreachableError(str(error), host=name) from None
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyError(_host_key_advice(read, known_hosts, error), host=name) from None
    except asyncssh.PermissionDenied as error:
        raise AuthenticationError(
            f"none of our keys is accepted ({_said(error)}): "
            f"make `ssh {name}` work without a password",
            host=name,
        ) from None
    except socket.gaierror as error:
        raise UnknownHostError(f"the name does not resolve ({error.strerror})", host=name) from None
    except ConnectionRefusedError:
        raise UnreachableError(
            f"port {read.port or 22} refuses connections: is sshd running there?", host=name
        ) from None
    except (OSError, asyncssh.Error, ValueError) as error:
        # ValueError: what asyncssh raises for a key that it cannot read.
        raise UnreachableError(f"cannot connect: {_said(error)}", host=name) from None


class _Late(Exception):
    """A limit is over; the text says which, and what may be the reason."""


#: A connection, and what has watched it from its beginning.
_Login = tuple[asyncssh.SSHClientConnection, _Client]


async def _log_in(host: str, options: dict[str, Any], proxied: bool) -> _Login:
    """Connect, with a limit for each phase: asyncssh has one for all. Raises _Late.

    What has arrived by the end of a limit counts, however late this loop comes to read it. The
    second limit begins where the first one ends: asyncssh does not tell when a server answers.
    """
    client = _Client()
    seconds = _PROXY_SECONDS if proxied else CONNECT_SECONDS
    making = asyncio.ensure_future(asyncssh.create_connection(lambda: client, host, **options))
    try:
        await asyncio.wait([making], timeout=seconds)
        if not making.done() and client.answered:
            await asyncio.wait([making], timeout=LOGIN_SECONDS)
        if not making.done():
            raise _Late(_what_is_late(client, proxied))
        return making.result()[0], client
    except BaseException:
        making.cancel()
        making.add_done_callback(_drop)
        raise


def _drop(making: asyncio.Task[tuple[asyncssh.SSHClientConnection, asyncssh.SSHClient]]) -> None:
    """Nobody waits for that connection any more."""
    if not making.cancelled() and making.exception() is None:
        making.result()[0].abort()


def _what_is_late(client: _Client, proxied: bool) -> str:
    if client.keys_exchanged:
        return (
            f"connected, but the login was not over within {LOGIN_SECONDS:.0f} s: the host is "
            "overloaded, or what it asks about users (PAM, LDAP, AuthorizedKeysCommand) hangs"
        )
    if client.answered:
        return (
            f"connected, but keys were not exchanged within {LOGIN_SECONDS:.0f} s: the host is "
            "overloaded, or large packets are lost on the way (MTU)"
        )
    seconds = f"{_PROXY_SECONDS if proxied else CONNECT_SECONDS:.0f} s"
    if proxied:
        return f"no answer within {seconds} through its ProxyCommand"
    if client.connected:
        return (
            f"no answer within {seconds}: connections are accepted, but no SSH server speaks: the "
            "host hangs, or what listens at that port is not sshd"
        )
    return f"no answer within {seconds}: down, or a firewall drops packets"


def read_configuration(address: HostAddress) -> asyncssh.SSHClientConnectionOptions:
    """What ~/.ssh/config makes of an address; no key is read. Raises OSError, ValueError."""
    return asyncssh.SSHClientConnectionOptions(
        host=address.host, client_keys=None, **_options(address)
    )


def _options(address: HostAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "config": _existing(_CONFIGS),
        "keepalive_interval": KEEPALIVE_SECONDS,
        # The limits are ours: see _log_in.
        "connect_timeout": None,
        "login_timeout": 0,
        "send_env": None,  # nothing of the server's environment
    }
    if address.user:
        options["username"] = address.user
    if address.port:
        options["port"] = address.port
    return options


def _known_hosts(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """The files to check host keys against. ``UserKnownHostsFile none`` leaves the system's."""
    configured = options.known_hosts
    user = configured if isinstance(configured, list) and configured else _USER_KNOWN_HOSTS
    return list(dict.fromkeys(_existing([*map(str, user), *_SYSTEM_KNOWN_HOSTS])))


def _keys(options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
    """As OpenSSH: an IdentityFile that is not there is passed over, asyncssh would give up."""
    configured = cast(list[str], options.config.get("IdentityFile", []))
    existing = _existing(configured)
    if len(existing) == len(configured):
        return {}
    return {"client_keys": existing, "ignore_encrypted": True}


def _existing(paths: Sequence[str]) -> list[str]:
    expanded = [Path(path).expanduser() for path in paths]
    return [str(path) for path in expanded if path.is_file()]


def _host_key_advice(
    options: asyncssh.SSHClientConnectionOptions,
    known_hosts: Sequence[str],
    error: asyncssh.HostKeyNotVerifiable,
) -> str:
    host, port = options.host, options.port or 22
    listed = f"[{host}]:{port}" if port != 22 else host
    name = options.host_key_alias or host
    matched: Sequence[Sequence[object]] = ()
    if known_hosts:
        matched = match_known_hosts(list(known_hosts), name, "", port if port != 22 else None)
    where = ", ".join(known_hosts) or "~/.ssh/known_hosts"
    if any(matched[:2]):
        return (
            f"the host key has CHANGED ({_said(error)}): somebody may be in between. If the host "
            f"was set up anew, forget the old key: ssh-keygen -R '{listed}' (known: {where})"
        )
    return (
        f"the host key is unknown ({_said(error)}): connect once by `ssh {listed}` and confirm "
        f"it, or add it to {where}"
    )


def _said(error: BaseException) -> str:
    text = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    return str(text) or type(error).__name__
