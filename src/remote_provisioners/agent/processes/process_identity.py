"""Identifies processes by pid and start time: the system uses a pid again, but not the pair.

Reads /proc; without it no process can be identified. Standard library only: this module travels
to hosts.
"""

from __future__ import annotations

import errno
import os
from typing import Iterator, NamedTuple, Optional

#: The errors for a process that has ended or is another user's. Other errors tell nothing about
#: the process (no descriptor is free).
_NOT_OURS = (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM)


class Stat(NamedTuple):
    """Fields of /proc/PID/stat: see proc(5). `started` is in ticks since boot."""

    state: str
    parent: int
    group: int
    session: int
    started: int
    #: The status that wait() would give, for a process that has ended and is not reaped.
    status: int

    @property
    def ended(self) -> bool:
        return self.state in "ZX"


def stat_of(pid: int) -> Optional[Stat]:
    """The state of a process; None when there is none with this pid.

    Raises OSError when that cannot be told at the moment.
    """
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise
    if len(fields) < 50:
        return None
    state = fields[0].decode("ascii", "replace")
    numbers = [int(fields[number]) for number in (1, 2, 3, 19, 49)]
    return Stat(state, *numbers)


def start_time(pid: int) -> Optional[int]:
    """When a process began, in ticks since boot. Raises OSError."""
    found = stat_of(pid)
    return found.started if found is not None else None


def boot_id() -> str:
    """An id that changes with each boot; "" where the system has none. Raises OSError when it
    cannot be read at the moment: a wrong answer would mean that the host was rebooted.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError as error:
        if error.errno in _NOT_OURS:
            return ""
        raise


def uses(pid: int, directory: str, kernel_id: str) -> bool:
    """Whether a process of ours belongs to this kernel: it has a file in `directory` open, or the
    kernel's id in its environment. Raises OSError when that cannot be told at the moment.
    """
    try:
        for name in os.listdir("/proc/{}/fd".format(pid)):
            if _target("/proc/{}/fd/{}".format(pid, name)).startswith(directory + "/"):
                return True
        if not kernel_id:
            return False
        with open("/proc/{}/environ".format(pid), "rb") as file:
            return b"KERNEL_ID=" + os.fsencode(kernel_id) in file.read().split(b"\0")
    except OSError as error:
        if error.errno in _NOT_OURS:
            return False
        raise


def leaders_in(directory: str) -> Iterator[int]:
    """The session leaders that have a file in `directory` open. Raises OSError."""
    for pid in _pids():
        found = stat_of(pid)
        if found is not None and found.session == pid and uses(pid, directory, ""):
            yield pid


def left_behind(leader: int, directory: str, kernel_id: str) -> bool:
    """Whether processes are left in the group of a kernel that has ended.

    True only if one of them surely belongs to the kernel: while it exists, the group's number
    cannot be another group's. Raises OSError.
    """
    if stat_of(leader) is not None:
        return False  # the system used the number again, so the group was empty
    for pid in _pids():
        found = stat_of(pid)
        in_group = found is not None and found.group == found.session == leader
        if in_group and uses(pid, directory, kernel_id):
            return True
    return False


def _pids() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        names = []
    return (int(name) for name in names if name.isdigit())


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
