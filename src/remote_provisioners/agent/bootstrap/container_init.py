"""The main process of a kernel's container. Travels as one word of a command line.

A server starts the agent, with `docker exec` or over the API of Kubernetes. Meanwhile this process
starts another one that loads the first template (head_start.py). It reaps processes, starts a
killed agent again, and ends when no agent and no server is left. The container, with all its
processes, ends with it. Standard library only, and syntax that Python 2.7 can read: if the
interpreter is too old, the container runs on, and the server can report that.
"""

import glob
import os
import signal
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple  # noqa: F401

#: Seconds until a server must have come, and for which the container stays after the last agent.
FIRST_SECONDS, LAST_SECONDS = 600.0, 15.0
_LOOK_SECONDS, _TRIES = 2.0, 3
_REVIVE = """\
import sys
sys.path.insert(0, sys.argv[1] + "/agent.pyz")
from remote_provisioners_agent.agent.bootstrap import find_or_start
find_or_start.find_or_start("", b"", sys.argv[1], find_or_start.host_identity()[0])
"""


def reap(*_):
    # type: (object) -> None
    """Reap every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        pass


def present(ahead):
    # type: (int) -> Tuple[bool, bool]
    """Whether there is an agent, and whether a server is connected or is just connecting.

    `ahead`: the pid of the head start, whose command line is like ours.
    """
    agent = server = False
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open("/proc/{}/cmdline".format(name), "rb") as file:
                words = file.read()
        except (IOError, OSError):  # it has ended meanwhile
            continue
        agent = agent or b"/agent.pyz\0" in words
        if int(name) != ahead:
            server = server or b"\0-I\0-S\0-c\0f" in words  # pipe/start.py
    return agent, server


def killed_agents():
    # type: () -> List[str]
    """The directories of agents that were killed: others remove theirs."""
    places = [os.environ.get("TMPDIR", "/tmp"), "/tmp", "/run/user/{}".format(os.getuid())]
    places.append("/dev/shm")
    patterns = [os.path.join(place, "remote-provisioners-*/*/agent.pyz") for place in places]
    patterns.append(os.path.expanduser("~/.remote-provisioners-*/*/agent.pyz"))
    return sorted({os.path.dirname(path) for pattern in patterns for path in glob.glob(pattern)})


def head_start(words):
    # type: (List[str]) -> int
    """Load the agent's first template in another process (head_start.py). Returns its pid, or 0."""
    if len(words) < 2 or sys.version_info < (3, 8):
        return 0
    pid = os.fork()
    if pid:
        return pid
    try:
        import base64  # noqa: PLC0415
        import json  # noqa: PLC0415
        import zlib  # noqa: PLC0415

        expected = json.loads(zlib.decompress(base64.b64decode(words[1])))
        names = {"__name__": "head_start"}  # type: Dict[str, Any]
        exec(expected["head_start"], names)  # noqa: S102
        names["main"](expected)
    except BaseException as error:  # the server starts the agent, and the agent loads a template
        sys.stderr.write("no template yet: {!r}\n".format(error))
        sys.stderr.flush()
    finally:
        os._exit(1)


def main():
    # type: () -> None
    """Wait for the end of the last agent."""
    clock = getattr(time, "monotonic", time.time)
    ahead = head_start(sys.argv)
    signal.signal(signal.SIGCHLD, reap)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: os._exit(0))
    until, seen, tries = clock() + FIRST_SECONDS, False, 0
    while clock() < until:
        time.sleep(_LOOK_SECONDS)
        reap()
        agent, server = present(ahead)
        seen = seen or agent
        if agent or server:
            until = clock() + (LAST_SECONDS if seen else FIRST_SECONDS)
        if agent:
            tries = 0
            continue
        for directory in killed_agents() if tries < _TRIES else []:
            tries += 1
            words = [sys.executable, "-I", "-S", "-c", _REVIVE, directory]
            subprocess.Popen(words, close_fds=True)


if __name__ == "__main__":
    main()
