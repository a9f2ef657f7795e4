"""The batch script of a job: starts the agent, and starts it again if it is killed. Pure.

At the end of a step Slurm ends the step's processes, so the agent belongs to the batch step. The
server reaches it with temporary steps (engine.py). The script contains no value of a request and no
secret.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence

from ...hosts.deploy_agent import agent_archive

_END = "REMOTE_PROVISIONERS_END"
#: Python 3.8. The first process stays: Slurm tracks its descendants, and orphans become its own.
_LAUNCHER = """\
import sys
if sys.version_info < (3, 8):
    sys.exit(78)
import base64, fcntl, glob, os, shutil, signal
if not os.path.isdir(os.environ.get("HOME", "")):  # the submit host's, which nodes do not have
    import pwd
    os.environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
directory = {directory!r}
agent = os.path.join(directory, "agent")
os.umask(0o077)
os.mkdir(directory)
# Whoever holds the lock is alive. The file has its text only after that.
node = os.uname().nodename
lock = open(os.path.join(directory, "lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(node)
lock.flush()
for other in glob.glob("/tmp/remote-provisioners-" + "?" * {digits}):
    try:  # a job that Slurm killed could not remove its directory
        if os.lstat(other).st_uid != os.getuid():
            continue  # its lock may be anything, such as a pipe
        with open(os.path.join(other, "lock")) as file:
            if file.read() == node:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other, ignore_errors=True)
    except OSError:
        pass
os.mkdir(agent)
archive = os.path.join(agent, "agent.pyz")
with open(archive, "wb") as file:
    file.write(base64.b64decode({archive!r}))
expected = {expected!r}
if expected:
    with open(os.path.join(agent, "expected.json"), "w") as file:
        file.write(expected)
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0)
child, over = 0, False
def end(signum, frame):
    global over
    over = True
    if child:
        os.kill(child, signal.SIGTERM)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, lambda signum, frame: None)
def adopt_orphans():
    try:
        import ctypes
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    except Exception:
        pass
try:
    while not over:
        try:
            os.unlink(os.path.join(agent, "agent.sock"))
        except FileNotFoundError:
            pass
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sys.path.insert(0, archive)
                sys.modules["ssl"] = None
                from remote_provisioners_agent.agent.main import main
                main(agent, os.dup(null))
                code = 0
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
                sys.stderr.flush()
            finally:
                os._exit(code)
        adopt_orphans()
        status = None
        while status is None:
            pid, ended = os.wait()
            if pid == child:
                status = ended
        child = 0
        if not os.WIFSIGNALED(status):
            break
finally:
    shutil.rmtree(directory, ignore_errors=True)
if os.WIFEXITED(status) and os.WEXITSTATUS(status):
    sys.exit(os.WEXITSTATUS(status))
"""


def batch_script(directory: str, python: str, lines: Sequence[str], expected: str = "") -> bytes:
    """The script. `directory`: the agent's private directory. `lines`: the operator's own lines.

    The lines' shell commands run in a login shell, so they find `module`. `expected`: see above.
    """
    commands = [line for line in lines if line.strip() and not line.startswith("#")]
    archive = base64.b64encode(agent_archive()).decode()
    digits = len(directory.rpartition("-")[2])
    launcher = _LAUNCHER.format(
        directory=directory, digits=digits, archive=archive, expected=expected
    )
    interpreter = f'"$HOME"/{shlex.quote(python[2:])}' if python.startswith("~/") else python
    if interpreter == python:
        interpreter = shlex.quote(python or "python3")
    text = [
        "#!/bin/bash -l" if commands else "#!/bin/sh",
        *lines,
        f"exec {interpreter} -I -S - <<'{_END}'",
        f"{launcher}{_END}",
    ]
    return ("\n".join(text) + "\n").encode()
