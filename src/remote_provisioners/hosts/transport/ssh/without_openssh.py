"""Reads the SSH configuration with asyncssh, where this machine has no ``ssh`` program."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any, cast

import asyncssh

from ....errors import UnreachableError
from ....placement.host_address import HostAddress
from .configuration import SSHConfiguration

_FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_IDENTITIES = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ed25519"))


def read_by_asyncssh(address: HostAddress) -> SSHConfiguration:
    """The settings in the files for an address. Raises UnreachableError."""
    given: dict[str, Any] = {"username": address.user} if address.user else {}
    given |= {"port": address.port} if address.port else {}
    files = [str(path) for path in map(_expanded, _FILES) if os.path.isfile(path)]
    try:
        read = asyncssh.SSHClientConnectionOptions(
            host=address.host, client_keys=None, config=files, known_hosts=(), **given
        )
    except (OSError, asyncssh.Error, ValueError) as error:
        raise UnreachableError(f"the SSH configuration cannot be read: {error}") from None
    get = read.config.get
    user = cast("list[str] | None", get("UserKnownHostsFile"))
    system = cast("list[str] | None", get("GlobalKnownHostsFile"))
    known = [
        *(_USER_KNOWN_HOSTS if user is None else user),
        *(_SYSTEM_KNOWN_HOSTS if system is None else system),
    ]
    agent = get("IdentityAgent", os.environ.get("SSH_AUTH_SOCK", ""))
    command = read.proxy_command
    return SSHConfiguration(
        name=address.host,
        host=str(read.host),
        port=int(read.port or 22),
        user=str(read.username),
        host_key_alias=str(read.host_key_alias or ""),
        known_hosts=_all_expanded(known),
        revoked_host_keys="",
        identity_files=_all_expanded(cast("list[str]", get("IdentityFile", _IDENTITIES))),
        certificate_files=_all_expanded(cast("list[str]", get("CertificateFile", []))),
        identities_only=bool(get("IdentitiesOnly")),
        agent=_expanded(str(agent)) if agent else "",
        jumps=tuple(read.tunnel.split(",")) if isinstance(read.tunnel, str) and read.tunnel else (),
        proxy_command=(command if isinstance(command, str) else shlex.join(command or [])),
        algorithms={"encryption_algs": cast("list[str]", get("Ciphers"))} if get("Ciphers") else {},
        options={},
    )


def _expanded(path: str) -> str:
    return os.path.expanduser(path)


def _all_expanded(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_expanded, paths))
