"""The head start of a container's agent: its first template, loaded before a server comes.

The import of ipykernel takes as long as a server takes to reach a new container. So the container's
main process (container_init.py) forks a process that runs this module. It loads the template and
waits at a socket, until find_or_start.py sends it the agent's program. Then it becomes the agent,
so the template is the agent's child. If no server comes, both end. Standard library only, Python
3.8: this module travels as text in the command line of the container.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

#: The template's descriptor of its connection (main_process.py).
TEMPLATE_DESCRIPTOR = 3
#: The file in the agent's directory that describes the template. first_template.py reads it.
TEMPLATE = "template.json"
_FIRST_SECONDS, _ASK_SECONDS = 600.0, 5.0
_PR_SET_CHILD_SUBREAPER = 36
#: The template's argv must have room for a forked kernel's argv, which `ps` then shows.
_ROOM = "-" * 150


def module(expected: Dict[str, Any], name: str) -> Dict[str, Any]:
    """Run the text of a module that `expected` contains. Returns its names."""
    names: Dict[str, Any] = {"__name__": name}
    exec(compile(expected[name], name, "exec", dont_inherit=True), names)  # noqa: S102
    return names


def complete_environment() -> None:
    """Set HOME, USER and LOGNAME as host_end.py does, which starts other agents."""
    if {"HOME", "USER", "LOGNAME"} <= os.environ.keys():
        return
    import pwd  # noqa: PLC0415

    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:  # a container's user may have no name
        os.environ.setdefault("HOME", "/")
    else:
        os.environ.setdefault("HOME", user.pw_dir)
        os.environ.setdefault("USER", user.pw_name)
        os.environ.setdefault("LOGNAME", user.pw_name)


def listen(finder: Dict[str, Any]) -> Tuple[socket.socket, str]:
    """The socket where find_or_start.py connects, and its path. Raises OSError."""
    base = finder["bases"]()[0]
    finder["private_directory"](base)
    path = finder["waiting_socket"](base, finder["host_identity"]()[0])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    listener.bind(path)
    os.umask(before)
    listener.listen(1)
    return listener, path


def load(expected: Dict[str, Any]) -> Tuple[Dict[str, Any], socket.socket]:
    """Start the template. Returns what the agent needs to know about it, and the connection to it.

    `expected` is what main_process.py sends. Raises an error if there is no such interpreter.
    """
    words = module(expected, "environment")
    environ = words["session_free"](os.environ)
    argv = words["resolve_command"](expected["argv"], expected["python"], environ)
    program = [argv[0], *expected["flags"]]
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir("/")
            kept = os.dup(theirs.fileno()), os.dup(reader)
            os.dup2(kept[0], TEMPLATE_DESCRIPTOR)
            os.dup2(kept[1], 0)
            os.closerange(TEMPLATE_DESCRIPTOR + 1, 64)
            for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
                signal.signal(signum, signal.SIG_DFL)
            os.execve(argv[0], [*program, "-", _ROOM], environ)
        finally:
            os._exit(127)
    os.close(reader)
    theirs.close()
    with open(writer, "wb") as file:  # it has room for all
        file.write(expected["program"].encode())
    return {"pid": pid, "program": program, "environ": environ}, ours


def adopt_orphans() -> None:
    """Let the template's kernels be our children, also when we are the agent. Raises OSError."""
    import ctypes  # noqa: PLC0415

    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("no subreaper")


def wait(listener: socket.socket, path: str) -> Tuple[str, str, int, int]:
    """Wait until find_or_start.py connects. Returns the agent's directory and program, and the
    descriptors of its log and of the process that waits for it. Raises OSError, ValueError.
    """
    listener.settimeout(_FIRST_SECONDS)
    try:
        connection, _ = listener.accept()
    finally:
        os.unlink(path)
        listener.close()
    with connection:
        connection.settimeout(_ASK_SECONDS)
        descriptors = array.array("i")
        room = socket.CMSG_SPACE(2 * descriptors.itemsize)
        data, ancillary, _, _ = connection.recvmsg(8192, room)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content)
        directory, program = json.loads(data)
        log, ready = descriptors
        connection.sendall(b"+")
    return directory, program, log, ready


def main(expected: Dict[str, Any]) -> None:
    """Load the template, wait, and become the agent. Raises an error if no server comes."""
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    os.setsid()
    complete_environment()
    listener, path = listen(module(expected, "find_or_start"))
    template, connection = load(expected)
    adopt_orphans()  # before the template forks the next kernel ahead
    directory, program, log, ready = wait(listener, path)
    template.update(agent=os.getpid(), descriptor=connection.fileno())
    with open(os.path.join(directory, TEMPLATE), "w") as file:
        json.dump(template, file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for descriptor in (ready, connection.fileno()):
        os.set_inheritable(descriptor, True)
    os.chdir("/")
    words = [sys.executable, "-I", "-S", program, directory, str(ready)]
    os.execv(sys.executable, words)
