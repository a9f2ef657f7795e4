"""Why asyncssh could not log in, as one of our errors. Pure."""

from __future__ import annotations

import socket

import asyncssh

from ....errors import (
    AuthenticationError,
    HostError,
    HostKeyError,
    UnknownHostError,
    UnreachableError,
)
from ..pipe.errors import last_lines
from ..ssh.configuration import SSHConfiguration
from ..ssh.login_errors import (
    Phase,
    authority_unknown,
    certificate_invalid,
    key_changed,
    key_revoked,
    key_unknown,
    name_unknown,
    no_key_accepted,
    not_forwarded,
    port_refused,
    proxy_said,
)
from .connection import Client, Late, Refused, reason_of
from .keys import KnownHosts


def do_not_agree(client: Client, error: BaseException) -> bool:
    """Whether the two sides have probably no algorithm in common.

    sshd hangs up then, and we may read that before we see it ourselves. The program says what is
    wrong in any case.
    """
    if isinstance(error, asyncssh.HostKeyNotVerifiable) or client.phase != Phase.ANSWERED:
        return False
    return isinstance(error, (asyncssh.Error, ConnectionError))


def with_banner(error: HostError, banner: str) -> HostError:
    """Put the host's own text before the error: it may name the reason."""
    said = last_lines(banner)
    return type(error)(f"it says: {said}\n{error.message}") if said else error


def translated(
    error: Exception, read: SSHConfiguration, known: KnownHosts, said_by_proxy: str
) -> HostError:
    """Translate the error of a connection into one of ours."""
    if said_by_proxy and not isinstance(error, (Late, Refused, asyncssh.HostKeyNotVerifiable)):
        return UnreachableError(proxy_said(said_by_proxy))
    if isinstance(error, Late):
        return UnreachableError(str(error))
    if isinstance(error, Refused):
        return AuthenticationError(_why_refused(error, read.name))
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostKeyError(_host_key_advice(read, known, reason_of(error)))
    if isinstance(error, socket.gaierror):
        return UnknownHostError(name_unknown(error.strerror or reason_of(error)))
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(port_refused(read.port))
    if isinstance(error, asyncssh.ChannelOpenError):
        forbidden = error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        return UnreachableError(not_forwarded(reason_of(error), forbidden))
    return UnreachableError(f"cannot connect: {reason_of(error)}")


def _why_refused(error: Refused, name: str) -> str:
    client, said = error.client, str(error)
    if client.refused_keys or not client.wanted:
        return no_key_accepted(name, "", said)
    return (
        f"the host wants {' or '.join(client.wanted)} besides a key or instead of one ({said}):\n"
        f"the server cannot answer its questions. Set ControlPath in ~/.ssh/config,\n"
        f"leave the option `connect` empty and run `jupyter remote login {name}`.\n"
        f"Or let the host accept a key alone"
    )


def _host_key_advice(read: SSHConfiguration, known: KnownHosts, said: str) -> str:
    keys, authorities, *_ = known.keys()
    where = ", ".join(known.files) or ", ".join(read.known_hosts) or "no known_hosts file"
    if "revoked" in said:
        return key_revoked(said)
    if any(words in said for words in ("expired", "not yet valid", "principal mismatch")):
        return certificate_invalid(said)
    if "CA key" in said and not keys:
        return authority_unknown(where, said)
    if keys or authorities:
        return key_changed(read.key_name, said, where)
    return key_unknown(read.name, said, where)
