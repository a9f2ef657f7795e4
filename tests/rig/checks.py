"""What the tests of the rig itself look at."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from . import command
from .host import Host, wait_until
from .relay import Relay
from .rig import Rig

SLEEP = ["sleep", "1234"]


def ssh(rig: Rig, host: Host | Relay, *argv: str) -> str:
    """Run a program by OpenSSH's client; CommandError says what that one said."""
    return command.run(rig.ssh_argv(host, argv))


def banner(address: str, port: int = 22, timeout: float = 1) -> bytes:
    """The first words of the server; OSError, among them TimeoutError, if there are none."""
    with socket.create_connection((address, port), timeout=timeout) as connection:
        return connection.recv(100)


def sleeps(host: Host) -> bool:
    """Whether what was sent to sleep in the background soon does: it may still be on its way."""
    return wait_until(lambda: sleepers(host) == 1)


def sleepers(host: Host) -> int:
    return sum(process.argv == tuple(SLEEP) for process in host.processes())


def traces(name: str) -> list[str]:
    """All that is left of the rig of that name on this machine."""
    files = ("cmdline", "environ", "mountinfo")
    left = [str(path) for path in Path("/var/tmp").glob(f"{name}*")]
    left += [link for _, link in socket.if_nameindex() if link == name]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = b"".join((process / file).read_bytes() for file in files)
        except OSError:
            continue
        left += [str(process)] if f"/{name}/".encode() in words else []
    return left


def eventually_gone(name: str) -> bool:
    deadline = time.monotonic() + 10
    while traces(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not traces(name)
