"""OpenSSH's master connection of a host: the user logs in once, later connections share it.

It is for hosts that want more than a key (ControlMaster in ssh_config(5)).
"""

from __future__ import annotations

import asyncio
import subprocess
import time

from ....errors import LoginWantedError
from ....placement.host_address import HostAddress
from ..ssh.reading import configuration_files, host_words

_CHECK_SECONDS = 5.0
#: How often we try a host that wants a login and has none. Each try is a failed login there, and
#: some hosts lock an account after a few of them.
_TRY_SECONDS = 300.0

#: When each host has last said that it wants a login, and the error.
_wanted: dict[HostAddress, tuple[float, LoginWantedError]] = {}


def check_command(address: HostAddress) -> list[str]:
    """The command that succeeds while there is a master connection."""
    # The program accepts ForkAfterAuthentication in the configuration only with -N.
    return ["ssh", *configuration_files(), "-N", "-O", "check", *host_words(address)]


async def has_master(address: HostAddress) -> bool:
    """Whether there is a master connection."""
    try:
        process = await asyncio.create_subprocess_exec(
            *check_command(address),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        return await asyncio.wait_for(process.wait(), _CHECK_SECONDS) == 0
    except asyncio.TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def login_wanted(address: HostAddress, error: LoginWantedError) -> None:
    """Note that the host wants its user to log in."""
    _wanted[address] = time.monotonic(), error


async def refuse_without_login(address: HostAddress) -> None:
    """Raise the host's last error if it wanted a login and there is still none."""
    if address not in _wanted:
        return
    since, error = _wanted[address]
    if time.monotonic() - since < _TRY_SECONDS and not await has_master(address):
        raise error
    _wanted.pop(address, None)
