"""Processes and TCP sockets, read from /proc: from outside, so looking starts nothing in a host."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

ESTABLISHED, LISTEN = 0x01, 0x0A  # the kernel's TCP states


@dataclass(frozen=True)
class Process:
    """A process as its own host sees it; ``ppid`` is 0 if its parent is not of that host."""

    pid: int
    ppid: int
    user: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A process as this machine sees it; ``inner`` is its pid in its own namespace."""

    pid: int
    inner: int
    ppid: int
    uid: int
    name: str
    argv: tuple[str, ...]

    @property
    def is_sshd(self) -> bool:
        # Since OpenSSH 9.8 also sshd-session and sshd-auth.
        return self.name.split("-")[0] == "sshd"


@dataclass(frozen=True)
class Socket:
    address: IPv4Address | IPv6Address
    port: int
    state: int
    inode: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else f"{self.address}"
        return f"{host}:{self.port}"


def entries() -> Iterator[Entry]:
    """Every process of this machine but zombies, which have ended."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                entry = _entry(Path("/proc", name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            if entry:
                yield entry


def _entry(directory: Path) -> Entry | None:
    lines = (directory / "status").read_text(errors="replace").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if status["State"].startswith(("Z", "X")):
        return None
    argv = (directory / "cmdline").read_bytes().decode(errors="replace")
    return Entry(
        pid=int(directory.name),
        inner=int(status["NSpid"].split()[-1]),
        ppid=int(status["PPid"]),
        uid=int(status["Uid"].split()[1]),
        name=status["Name"],
        argv=tuple(argv.split("\0")[:-1]) if argv.endswith("\0") else (argv,) if argv else (),
    )


def namespace_members(init: int) -> list[Entry]:
    """The processes in the PID namespace of ``init``, and below it."""

    def namespace(pid: int) -> int:
        try:
            return os.stat(f"/proc/{pid}/ns/pid").st_ino
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return -1

    own = namespace(init)
    return [] if own < 0 else [entry for entry in entries() if namespace(entry.pid) == own]


def descendants(init: int) -> list[Entry]:
    """``init`` and all its children, grandchildren and so on."""
    table = {entry.pid: entry for entry in entries()}

    def belongs(pid: int) -> bool:
        while pid != init and pid in table:
            pid = table[pid].ppid
        return pid == init

    return [entry for entry in table.values() if belongs(entry.pid)]


def sockets(pid: int | str = "self") -> Iterator[Socket]:
    """The TCP sockets in the network namespace of a process."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue  # no such process, or a kernel without IPv6
        for fields in map(str.split, lines):
            address, _, port = fields[1].partition(":")
            # Words of 32 bits, each written as a number of this machine.
            words = (int(address[i : i + 8], 16) for i in range(0, len(address), 8))
            packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
            yield Socket(ip_address(packed), int(port, 16), int(fields[3], 16), int(fields[9]))


def socket_inodes(pid: int) -> set[int]:
    """The inodes of the sockets that a process holds open; empty if we may not look."""
    inodes = set()
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            link = os.readlink(descriptor.path)
            if link.startswith("socket:["):
                inodes.add(int(link[8:-1]))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return inodes
