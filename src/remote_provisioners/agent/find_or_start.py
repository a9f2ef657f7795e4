"""Find or start the agent on this host. Sent as text to ``python -c`` over the connection.

Reads from stdin, after this text, a line with the digest and the size of the agent's archive, and
that; prints MARKER and a dictionary as Python writes it: ``{"socket": path}`` or ``{"error":
text}``. (A login shell may print what it likes before.) Standard library only, and what most starts
do not need is imported when it is: that is half of the time this takes. It is no module of the
archive.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, List, Tuple

MARKER = "remote-provisioners-agent "


class Refused(Exception):
    """The agent cannot be had here; the message says why."""


def private_directory(path: str) -> None:
    """Make `path` a directory that only we can enter. Raises Refused, OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Refused(
            "{} belongs to uid {}, not to us (uid {}): remove it".format(
                path, found.st_uid, os.getuid()
            )
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def temporary() -> str:
    """Where sockets may live: on this host (a home may be on NFS), with a short path."""
    path = os.environ.get("TMPDIR", "/tmp")
    return path if os.path.isabs(path) and len(path) <= 40 and os.path.isdir(path) else "/tmp"


def bases() -> List[str]:
    """Where our agents may be, the best place first: another user may sit on a name in /tmp."""
    name = "remote-provisioners-{}".format(os.getuid())
    found = [os.path.join(temporary(), name)]
    if os.path.isdir("/run/user/{}".format(os.getuid())):
        found.append("/run/user/{}/{}".format(os.getuid(), name))
    home = os.path.expanduser("~")
    if os.path.isdir(home) and len(home) <= 40:  # with the host's name: hosts may share it
        found.append(os.path.join(home, ".{}-{:.12}".format(name, os.uname().nodename)))
    return found


def reserved(digest: str) -> Tuple[str, int]:
    """The base to use, and what holds its lock: one where an agent answers, or the first that
    can be had. Raises Refused, OSError.
    """
    places = bases()
    for base in places[1:]:
        if answers(os.path.join(base, digest[:12], "agent.sock")):
            return base, locked(base)
    refused = None
    for base in places:
        try:
            return base, locked(base)
        except Refused as error:
            refused = refused or error
    raise refused or Refused("no directory for the agent")


def locked(path: str) -> int:
    """A descriptor that holds the lock of the directory `path`, made if need be."""
    while True:
        private_directory(path)
        lock = os.open(path, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)  # an agent that ended itself has removed it meanwhile


def answers(path: str) -> bool:
    """Whether an agent listens on the socket `path`."""
    if not os.path.lexists(path):
        return False
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def start(directory: str, archive: bytes) -> None:
    """Start the agent in `directory`, detached from this session. Raises Refused, OSError."""
    private_directory(directory)
    program = os.path.join(directory, "agent.pyz")
    with open(program, "wb") as file:
        file.write(archive)
    path = os.path.join(directory, "agent.sock")
    if os.path.lexists(path):
        os.unlink(path)
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                become_agent(directory, program, write_end)
        finally:
            os._exit(1)
    os.wait()
    os.close(write_end)
    started = os.read(read_end, 1)  # a byte when it listens, end of file when it could not
    os.close(read_end)
    if not started:
        with open(os.path.join(directory, "agent.log")) as log:
            raise Refused("the agent did not start: " + log.read()[-2000:])


def become_agent(directory: str, program: str, ready: int) -> None:
    """Replace this process by the agent, with nothing left of the session it came from."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    log = os.open(os.path.join(directory, "agent.log"), flags, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.set_inheritable(ready, True)
    os.chdir("/")
    os.execv(sys.executable, [sys.executable, "-I", "-S", program, directory, str(ready)])


def discard(directory: str, base: str) -> None:
    """Remove what could not be started; the base too, unless other versions live in it."""
    import shutil  # noqa: PLC0415

    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.rmdir(base)
    except OSError:
        pass


def main(stdin: BinaryIO) -> None:
    """Print where the agent is."""
    try:
        digest, size = stdin.readline().decode("ascii").split()
        archive = stdin.read(int(size))
        base, lock = reserved(digest)
        directory = os.path.join(base, digest[:12])
        path = os.path.join(directory, "agent.sock")
        if not answers(path):
            try:
                start(directory, archive)
            except OSError:
                discard(directory, base)
                raise
        os.close(lock)
        answer = {"socket": path}
    except Refused as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": "{}: {}".format(error.strerror, error.filename or "agent")}
    print(MARKER + ascii(answer), flush=True)


if __name__ == "__main__":
    main(sys.stdin.buffer)
