"""Processes of other users on this host, as far as /proc shows them to everybody.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os


def user_of(pid: int) -> int:
    """The user who runs a process. Raises OSError.

    Not the owner of /proc/PID: that is root where a process keeps secrets from its user.
    """
    with open("/proc/{}/status".format(pid), "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return -1


def is_agent(pid: int, name: str) -> bool:
    """Whether a process is the agent whose directory has this name. Raises OSError.

    The system may have given the number to another process.
    """
    with open("/proc/{}/cmdline".format(pid), "rb") as file:
        argv = file.read(4096).split(b"\0")
    program = "/{}/agent.pyz".format(name).encode()
    return any(word.endswith(program) for word in argv)


def is_hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show to us (mounted with hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def has_processes(uid: int) -> bool:
    """Whether a user runs anything here."""
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
