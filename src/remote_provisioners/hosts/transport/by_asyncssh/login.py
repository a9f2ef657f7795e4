"""Logging in to a host by SSH, with asyncssh: first to its jump hosts, then to the host itself.

`ssh/reading.py` reads the user's SSH configuration as OpenSSH does, `keys.py` loads the keys. Host
keys are always checked, even if the configuration turns that off.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import asyncssh

from ....errors import HostError, HostKeyError, UnreachableError
from ....placement.host_address import HostAddress
from ....placement.way_in import AUTOMATIC, WayIn
from ..ssh.configuration import SSHConfiguration
from ..ssh.reading import read_configuration
from .algorithms import usable
from .connection import Client, Late, Login, Refused, connect, connection_options, reason_of
from .failures import do_not_agree, translated, with_banner
from .jumps import circle, jump_address
from .keys import KnownHosts, usable_keys
from .proxy_command import ProxyCommand

_OTHER_WAY = 'Perhaps asyncssh and sshd have no algorithm in common: set `connect = "openssh"`.'
#: Characters that a user name must not contain when a ProxyCommand may use it (%r).
_SHELL_ACTS_ON = set("$\\`;&|<>()")


class OnlyOpenSSH(Exception):
    """Only OpenSSH's own program can connect. The text says why, for the log.

    `asked`: what `ask_openssh` has returned for the host.
    """

    def __init__(self, why: str, asked: Any) -> None:
        super().__init__(why)
        self.asked = asked


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
        raise OnlyOpenSSH(f"{read.only_openssh} in its SSH configuration", read.asked)
    try:
        read = replace(read, algorithms=usable(read.algorithms))
    except UnreachableError as error:
        if automatic:
            why = "an algorithm that asyncssh lacks in its SSH configuration"
            raise OnlyOpenSSH(why, read.asked) from None
        raise error.at(name) from None
    try:
        return read, await asyncio.to_thread(KnownHosts, read)
    except (OSError, ValueError) as error:
        if automatic:  # the program can read it, or says what is wrong
            raise OnlyOpenSSH("RevokedHostKeys in its SSH configuration", read.asked) from None
        raise HostKeyError(
            f"RevokedHostKeys {read.revoked_host_keys!r} cannot be read ({reason_of(error)}):\n"
            "asyncssh reads a list of public keys only",
            host=name,
        ) from None


async def _open_jumps(
    address: HostAddress, read: SSHConfiguration, opened: list[Login], after: tuple[str, ...]
) -> None:
    """Log in to the jump hosts of `address`, each through the one before. Raises as `_open`."""
    for number, hop in enumerate(read.jumps):
        try:
            jump = jump_address(hop)
            if number == 0 and jump.host in after:
                raise circle(jump.host)
            jump = replace(jump, way=WayIn(address.way.kind))
            await _open(jump, opened, number > 0, after)
        except OnlyOpenSSH as only:
            raise OnlyOpenSSH(str(only), read.asked) from None
        except HostError as error:
            text = f"jump host {hop}: {error.message}"
            raise type(error)(text, host=str(address)) from None


async def _open(
    address: HostAddress, opened: list[Login], through: bool = False, after: tuple[str, ...] = ()
) -> None:
    """Log in to `address` and append that to `opened`; `through`: go through its last login.

    We connect to jump hosts here: asyncssh would check their keys in its own way.
    `after`: the hosts whose configuration has led here.
    """
    name = str(address)
    read, known = await _read(address)
    options = {**connection_options(read), **known.first(read.algorithms)}
    options["known_hosts"] = known.match
    if read.jumps and not through:
        await _open_jumps(address, read, opened, (*after, address.host))
        through = True
    if through and opened:
        options["tunnel"], _ = opened[-1]
    client = Client()
    if read.proxy_command and not through:
        if _SHELL_ACTS_ON & set(read.user):
            text = f"the user name {read.user!r} cannot be a word of its ProxyCommand"
            raise UnreachableError(text, host=name)
        client.proxy = ProxyCommand(read.proxy_command)
    async with usable_keys(read) as keys:
        try:
            if client.proxy is not None:
                options["sock"] = await client.proxy.start()
            opened.append(await connect(client, read.host, options | {"client_keys": keys or None}))
        except BaseException as error:
            said_by_proxy = client.end_proxy()
            await asyncio.shield(client.proxy_ended())
            if do_not_agree(client, error):
                if address.way.kind == AUTOMATIC:
                    why = "asyncssh and its sshd have no algorithm in common"
                    raise OnlyOpenSSH(why, read.asked) from None
                raise UnreachableError(f"{reason_of(error)}.\n{_OTHER_WAY}", host=name) from None
            # ValueError: asyncssh raises it for a key that it cannot read.
            if isinstance(error, (Late, Refused, OSError, asyncssh.Error, ValueError)):
                told = translated(error, read, known, said_by_proxy)
                raise with_banner(told, client.banner).at(name) from None
            raise
