"""Who listens on the ports of the loopback interface, by /proc.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Collection, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from ..processes.process_identity import Stat, stat_of

_LISTEN = 10
_LINK = "socket:[{}]"
#: An address at which everybody listens, and the one to connect to instead.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_USUAL_RANGE = (32768, 60999)


class Listener(NamedTuple):
    """A socket that listens. `address` is the one to connect to."""

    address: str
    port: int
    inode: int


class Holder(NamedTuple):
    """A process that has a socket open."""

    pid: int
    stat: Stat


def listeners(user: int) -> Iterator[Listener]:
    """The sockets of this user on the loopback interface, or on every interface. Raises OSError."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            with open("/proc/net/" + name) as table:
                next(table)
                rows = [line.split() for line in table]
        except FileNotFoundError:
            if family == socket.AF_INET:
                raise
            continue
        for words in rows:
            if int(words[3], 16) == _LISTEN and int(words[7]) == user:
                address, _, port = words[1].partition(":")
                reached = _reached(family, address)
                if reached:
                    yield Listener(reached, int(port, 16), int(words[9]))


def user_of(here: Tuple[str, int], there: Tuple[str, int]) -> int:
    """The user of the socket of this machine at address `there` that is connected to `here`.

    -1 if the system does not say. Raises OSError.
    """
    with open("/proc/net/tcp") as table:
        next(table)
        for words in map(str.split, table):
            if _address(words[1]) == there and _address(words[2]) == here:
                return int(words[7])
    return -1


def _address(text: str) -> Tuple[str, int]:
    address, _, port = text.partition(":")
    return socket.inet_ntop(socket.AF_INET, _network_order(address)), int(port, 16)


def _reached(family: int, address: str) -> str:
    """Where to connect to; "" if only other machines' connections arrive there."""
    text = socket.inet_ntop(family, _network_order(address))
    if text.startswith("::ffff:"):
        text = text[len("::ffff:") :]
    if text in _ANYWHERE:
        return _ANYWHERE[text]
    return text if text == "::1" or text.startswith("127.") else ""


def _network_order(address: str) -> bytes:
    """An address of /proc/net, which writes words of 32 bits in this machine's byte order."""
    raw = bytes.fromhex(address)
    words = struct.unpack(">{}I".format(len(raw) // 4), raw)
    return struct.pack("={}I".format(len(words)), *words)


def holders(inodes: Collection[int], user: int) -> Dict[int, List[Holder]]:
    """The processes of this user that have each of these sockets open."""
    wanted = {_LINK.format(inode): inode for inode in inodes}
    found: Dict[int, List[Holder]] = {}
    if not wanted:
        return found
    for pid in _pids_of(user):
        seen = {wanted[link] for link in _links(pid) if link in wanted}
        stat = _stat(pid) if seen else None
        if stat is not None:
            for inode in seen:
                found.setdefault(inode, []).append(Holder(pid, stat))
    return found


def holds(pid: int, inode: int) -> bool:
    """Whether this process has the socket open."""
    return _LINK.format(inode) in _links(pid)


def sockets_of(pid: int) -> FrozenSet[int]:
    """The sockets that this process has open."""
    before, after = _LINK.split("{}")
    links = [link for link in _links(pid) if link.startswith(before)]
    return frozenset(int(link[len(before) : -len(after)]) for link in links)


def belongs(holder: Holder, leader: int, kernel_id: str) -> bool:
    """Whether a process is one of this kernel, whose first process is `leader`."""
    if leader in (holder.stat.session, holder.pid):
        return True
    try:
        with open("/proc/{}/environ".format(holder.pid), "rb") as file:
            return b"KERNEL_ID=" + os.fsencode(kernel_id) in file.read().split(b"\0")
    except OSError:
        return False


def program_of(pid: int) -> str:
    """What a person calls this process: the program, or the script or module of an interpreter."""
    try:
        with open("/proc/{}/cmdline".format(pid), "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
    except OSError:
        return ""
    names = [os.path.basename(word) for word in words if word]
    if not names:
        return ""
    if names[0].startswith("python"):
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1]
        scripts = [word for word in words[1:] if word and not word.startswith("-")]
        if scripts and len(words) > 1 and words[1] == scripts[0]:
            return os.path.basename(scripts[0])
    return names[0]


def handed_out() -> Tuple[int, int]:
    """The ports that the system gives to programs that ask for any."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            lower, upper = map(int, file.read().split())
            return lower, upper
    except (OSError, ValueError):
        return _USUAL_RANGE


def _stat(pid: int) -> Optional[Stat]:
    try:
        return stat_of(pid)
    except OSError:
        return None


def _pids_of(user: int) -> Iterator[int]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                try:
                    owner = entry.stat().st_uid
                except OSError:
                    continue  # it has just ended
                if owner == user:
                    yield int(entry.name)


def _links(pid: int) -> Iterator[str]:
    directory = "/proc/{}/fd".format(pid)
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink("{}/{}".format(directory, name))
        except OSError:
            continue
