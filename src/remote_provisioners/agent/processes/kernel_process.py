"""A kernel's process: started in a session of its own, signalled and reaped.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from .process_identity import stat_of

#: The file in a kernel's directory that it prints to.
OUTPUT = "output"
#: How much of a kernel's output file an error message shows.
TAIL_BYTES = 4096
TAIL_LINES = 20
#: What ipykernel prints at its start, which explains no end and is meant for a terminal.
_GREETING = r"(?s)NOTE: When using the `ipython kernel` .*?--existing [^\n]*\n?"


class Command(NamedTuple):
    """What a process needs to start."""

    argv: List[str]
    environ: Dict[str, str]
    cwd: str
    #: The file that it prints to.
    output: str
    #: Our descriptors that it inherits.
    descriptors: Sequence[int] = ()


def open_output(path: str) -> int:
    """Open the file that a kernel prints to. A pipe would break when its reader ends.

    Raises OSError.
    """
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)


class KernelProcess:
    """A running kernel: its process group, its output file and, in the end, its exit code.

    `returncode` is None while it runs; negative for the signal that ended it.
    """

    def __init__(self, pid: int, log_path: str) -> None:
        """`pid` is a child of ours that leads a process group, and prints to `log_path`."""
        self.log_path = log_path
        self.pid = pid
        #: How it was started: "spawned", "forked", "warm"; "" when that is not known any more.
        self.way = ""
        #: Seconds since the epoch.
        self.started = time.time()
        self.returncode: Optional[int] = None

    @classmethod
    def spawn(cls, command: Command) -> KernelProcess:
        """Spawn a program. Raises OSError when that fails."""
        log = open_output(command.output)
        try:
            process = subprocess.Popen(
                command.argv,
                env=command.environ,
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=command.descriptors,
            )
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise OSError(errno.E2BIG, _why_too_long(command)) from None
            raise
        finally:
            os.close(log)
        process.returncode = 0  # reap() below reaps it, not subprocess
        spawned = cls(process.pid, command.output)
        spawned.way = "spawned"
        return spawned

    def signal(self, signum: int) -> bool:
        """Signal the whole process group; False when the kernel has ended already."""
        if self.returncode is not None:
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def reap(self) -> Optional[int]:
        """The exit code once the process has ended, None before. Kills processes it left behind.

        The rest of the group is killed while the zombie leader still holds the group's number, so
        the signal cannot reach another group.
        """
        if self.returncode is not None:
            return self.returncode
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.returncode = exit_code_of(status)
        return self.returncode

    def tail(self) -> str:
        """The last lines that the kernel printed."""
        return tail_of(self.log_path)


def _why_too_long(command: Command) -> str:
    """Which part of a command is too long for the system."""
    sizes = [
        (len(os.fsencode("{}={}".format(*item))), "the environment variable {}".format(item[0]))
        for item in command.environ.items()
    ]
    sizes += [
        (len(os.fsencode(word)), "the argument {!r}".format(word[:20])) for word in command.argv
    ]
    size, longest = max(sizes)
    most = 32 * os.sysconf("SC_PAGE_SIZE")  # Linux' limit for one of them
    if size >= most:
        return "{} is too long for a program: {} bytes of {}".format(longest, size, most)
    text = "environment and arguments are too long for a program: {} bytes;\nthe longest is {} ({})"
    return text.format(sum(each for each, _ in sizes), longest, size)


def tail_of(path: str) -> str:
    """The last lines of a file."""
    try:
        with open(path, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(re.sub(_GREETING, "", text).strip().splitlines()[-TAIL_LINES:])


def exit_code_of(status: int) -> int:
    """The exit code as subprocess reports it: negative for a signal. `status` is from wait()."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def zombies() -> Set[int]:
    """Our children that have ended and are not reaped."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            with open("/proc/self/task/{}/children".format(task)) as children:
                pids = [int(pid) for pid in children.read().split()]
        except OSError:
            continue  # this system has no such file: zombies stay until we end
        for pid in pids:
            stat = stat_of(pid)
            if stat is not None and stat.ended:
                found.add(pid)
    return found
