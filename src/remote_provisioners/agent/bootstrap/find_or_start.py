"""Find or start the agent on this host. Sent as text to ``python -c`` over the connection.

Stdin holds, after this text, a line with the digest and size of the agent's archive and perhaps the
directory of a former agent, a line with the directory where our agent was, if that is known, a line
with the expected kernel, then the archive. Prints MARKER and a
Python dictionary: ``host`` and ``boot`` (see host_identity), ``name`` (the machine's), and
``socket`` (a path), ``error`` (a text) or ``gone`` (a text: that former agent cannot come back). A
login shell may print anything before it. A former agent is started again by its own program, which
knows its own records best. Standard library only; rarely needed modules are imported late, because
imports take half of the time. The agent contains this module too, for other agents of its user
(siblings.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, List, Optional, Tuple

MARKER = "remote-provisioners-agent "
ELSEWHERE = "it is of another host, or of an earlier boot of this one"


class Refused(Exception):
    """No agent can run here; the message says why."""


class GoneError(Exception):
    """The former agent and its kernels are gone; the message says why."""


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
    return path if os.path.isabs(path) and len(path) <= 36 and os.path.isdir(path) else "/tmp"


def bases() -> List[str]:
    """Where our agents may be, the best place first: another user may own the name in /tmp."""
    name = "remote-provisioners-{}".format(os.getuid())
    found = [os.path.join(temporary(), name)]
    if os.path.isdir("/run/user/{}".format(os.getuid())):
        found.append("/run/user/{}/{}".format(os.getuid(), name))
    home = os.path.expanduser("~")
    if os.path.isdir(home) and len(home) <= 28:  # with the host's name: hosts may share it
        found.append(os.path.join(home, ".{}-{:.12}".format(name, os.uname().nodename)))
    if os.path.isdir("/dev/shm"):  # last, because kernels' stored output would take memory there
        found.append("/dev/shm/" + name)
    return found


def reserved(name: str, known: str = "") -> Tuple[str, int]:
    """The base to use, and a descriptor that locks it: the base where the agent `name` was
    (`known`) or answers, or the first that we can use. Raises Refused, GoneError, OSError.
    """
    if known and os.path.basename(known) != name:
        raise GoneError(ELSEWHERE)
    if os.path.isdir(known):  # TMPDIR may be another one now
        base = os.path.dirname(known)
        return base, locked(base)
    places = bases()
    for base in places[1:]:
        if answers(os.path.join(base, name, "agent.sock")):
            return base, locked(base)
    refused: Optional[Exception] = None
    for base in places:
        try:
            return base, locked(base)
        except (Refused, OSError) as error:  # such as a read-only /tmp
            refused = refused or error
    raise refused or Refused("no directory for the agent")


def locked(path: str) -> int:
    """Make the directory `path` if needed, and lock it. Returns the descriptor of the lock."""
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
    """Whether an agent listens on the socket `path`. It may be stopped, with a full queue."""
    if not os.path.lexists(path):
        return False
    import errno  # noqa: PLC0415
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def host_identity() -> Tuple[str, str]:
    """A short unique name of this host, and the id of its boot.

    Two hosts may share a directory, over NFS or as containers; neither can see or signal the
    other's processes. A rebooted host counts as another one, because its processes are gone.
    Raises OSError when it cannot be told at the moment.
    """
    boot = node = ""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        node = os.readlink("/proc/self/ns/pid")
    except (FileNotFoundError, PermissionError):
        node = os.uname().nodename
    return "{:08x}".format(crc32("{} {}".format(boot, node).encode("utf-8", "replace"))), boot


def start(directory: str, archive: bytes, expected: str = "") -> None:
    """Start the agent in `directory`, detached from this session. Raises Refused, OSError.

    `expected`: the kernel that it is started for.

    Earlier files stay, whatever happens: kernels of a killed agent may run, and their sockets and
    records are there.
    """
    made = not os.path.lexists(directory)
    private_directory(directory)
    try:
        program = install(directory, archive)
        if expected:
            expect(directory, expected)
        launch(directory, program)
    except BaseException:
        if made:
            import shutil  # noqa: PLC0415

            shutil.rmtree(directory, ignore_errors=True)
        raise


def install(directory: str, archive: bytes) -> str:
    """Write the agent's program, if it is not there already: then a full disk does not matter.
    An empty `archive` means the program that is there. Raises OSError.
    """
    program = os.path.join(directory, "agent.pyz")
    if archive and not (os.path.isfile(program) and os.path.getsize(program) == len(archive)):
        with open(program + ".new", "wb") as file:
            file.write(archive)
        os.rename(program + ".new", program)
    return program


def expect(directory: str, expected: str) -> None:
    """Write down the kernel that the agent is started for. forking/first_template.py reads this."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    try:
        with open(os.open(os.path.join(directory, "expected.json"), flags, 0o600), "w") as file:
            file.write(expected)
    except OSError:  # the disk is full: the kernel is spawned
        pass


def launch(directory: str, program: str) -> None:
    """Start the program, and wait until it listens. Raises Refused, OSError."""
    path, log = os.path.join(directory, "agent.sock"), os.path.join(directory, "agent.log")
    if os.path.lexists(path):
        os.unlink(path)
    said_before = os.path.getsize(log) if os.path.exists(log) else 0
    read_end, write_end = os.pipe()
    error_end, own_error_end = os.pipe()
    handed = hand_over(directory, program, write_end)
    if not handed and forked() == 0:
        try:
            os.setsid()
            if forked() == 0:
                become_agent(directory, program, write_end)
        except (OSError, Refused) as error:
            os.write(own_error_end, str(error).encode("utf-8", "replace"))
        finally:
            os._exit(1)
    if not handed:
        try:
            os.wait()
        except ChildProcessError:  # the login ignores SIGCHLD
            pass
    os.close(write_end)
    os.close(own_error_end)
    started = os.read(read_end, 1)  # a byte when it listens, end of file when it failed
    why = os.read(error_end, 1000).decode("utf-8", "replace")
    os.close(read_end)
    os.close(error_end)
    if not started:
        raise Refused("the agent did not start: " + (why or said_since(log, said_before)))


def waiting_socket(base: str, host: str) -> str:
    """The socket of a process that waits to become the agent, with a template (head_start.py)."""
    return os.path.join(base, "waiting-{}.sock".format(host))


def hand_over(directory: str, program: str, ready: int) -> bool:
    """Make a waiting process the agent, if there is one. Returns whether it becomes the agent."""
    base, name = os.path.split(directory)
    path = waiting_socket(base, name.rpartition("-")[2])
    if not os.path.lexists(path):
        return False
    import array  # noqa: PLC0415
    import json  # noqa: PLC0415
    import socket  # noqa: PLC0415

    log = open_log(directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waiting:
        waiting.settimeout(5)
        rights = array.array("i", [log, ready])
        try:
            waiting.connect(path)
            said = json.dumps([directory, program]).encode()
            waiting.sendmsg([said], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            return waiting.recv(1) == b"+"
        except OSError:
            return False
        finally:
            os.close(log)


def open_log(directory: str) -> int:
    """The descriptor of the agent's log."""
    path, flags = os.path.join(directory, "agent.log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND
    try:
        return os.open(path, flags, 0o600)
    except OSError:  # the disk is full
        return os.open(os.devnull, os.O_WRONLY)


def forked() -> int:
    """Like os.fork. Raises Refused when the user has too many processes, OSError."""
    try:
        return os.fork()
    except BlockingIOError:
        text = "uid {} may start no more processes there (ulimit -u, or the system's limit)"
        raise Refused(text.format(os.getuid())) from None


def said_since(log: str, before: int) -> str:
    """What an agent has added to its log."""
    try:
        with open(log, "rb") as file:
            file.seek(before)
            said = file.read()[-2000:].decode("utf-8", "replace").strip()
    except OSError as error:
        said = "it has no log ({})".format(error.strerror)
    return said or "it said nothing"


def become_agent(directory: str, program: str, ready: int) -> None:
    """Replace this process by the agent, detached from the login session."""
    log = open_log(directory)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.set_inheritable(ready, True)
    os.chdir("/")
    os.execv(sys.executable, [sys.executable, "-I", "-S", program, directory, str(ready)])


def revive(directory: str, host: str) -> None:
    """Start the former agent of `directory` again, by its program there.

    Raises Refused, GoneError, OSError.
    """
    name = os.path.basename(directory)
    if "-" in name and name.rpartition("-")[2] != host:
        raise GoneError(ELSEWHERE)
    if not os.path.isfile(os.path.join(directory, "agent.pyz")):
        raise GoneError("its files are removed")
    start(directory, b"")


def find_or_start(
    digest: str, archive: bytes, former: str, host: str, expected: str = "", *, known: str = ""
) -> str:
    """The path of the socket of the agent of this digest, or of the former agent whose directory
    is `former`. `known`: where the agent of this digest was; none is started on another host than
    that. Raises Refused, GoneError, OSError.
    """
    base, name = os.path.split(former)
    if not former:
        name = "{}-{}".format(digest[:12], host)
        base, lock = reserved(name, known)
    elif os.path.isdir(base):
        lock = locked(base)
    else:
        raise GoneError("its files are removed")
    try:
        directory = os.path.join(base, name)
        path = os.path.join(directory, "agent.sock")
        if not answers(path):
            if former:
                revive(directory, host)
            else:
                start(directory, archive, expected)
        return path
    except BaseException:
        try:
            os.rmdir(base)  # fails unless it is empty
        except OSError:
            pass
        raise
    finally:
        os.close(lock)


def request(digest: str, size: int, former: str = "", expected: str = "", known: str = "") -> bytes:
    """The lines that follow this text: for an archive of this size, or for a former agent."""
    text = "{} {} {}\n{}\n{}\n".format(digest, size, former, known, expected)
    return text.encode("utf-8", "surrogateescape")


def main(stdin: BinaryIO) -> None:
    """Print where the agent is."""
    if not os.path.exists("/proc/self/stat"):
        text = "it runs {}, without /proc: kernels can be started on Linux only"
        answer = {"host": "", "boot": "", "error": text.format(os.uname().sysname)}
        print(MARKER + ascii(answer), flush=True)
        return
    answer = {}
    os.umask(os.umask(0o077) & 0o077)  # what we make is ours, whatever the login's umask is
    try:
        host, boot = host_identity()
        answer = {"host": host, "boot": boot, "name": os.uname().nodename}
        line, known, expected = (
            stdin.readline().decode("utf-8", "surrogateescape")[:-1] for _ in range(3)
        )
        digest, size, former = line.split(" ", 2)
        archive = stdin.read(int(size))
        if len(archive) != int(size):  # it would replace the program of a killed agent
            raise Refused("the connection was cut while the agent's program was sent")
        answer["socket"] = find_or_start(digest, archive, former, host, expected, known=known)
    except GoneError as error:
        answer["gone"] = str(error)
    except Refused as error:
        answer["error"] = str(error)
    except OSError as error:
        answer["error"] = "{}: {}".format(error.strerror, error.filename or "agent")
    print(MARKER + ascii(answer), flush=True)


if __name__ == "__main__":
    main(sys.stdin.buffer)
