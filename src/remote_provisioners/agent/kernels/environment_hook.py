"""The environment hook: the operator's shell text (conda, modules, a venv), run once per agent.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from typing import Dict, Mapping

from ...protocol.answers import HOOK_FAILED
from .. import apart
from ..errors import RefusedError
from ..processes.programs import finished
from .environment import session_free

_SECONDS = 60
_ERROR_BYTES = 2000
_DUMP = """\
import os, sys
try:
    with open(sys.argv[1], "wb") as file:
        file.write(b"\\0".join(k + b"=" + v for k, v in os.environb.items()))
except OSError as error:
    sys.exit("cannot write the environment to {}: {}".format(sys.argv[1], error.strerror))
"""


class Environments:
    """The environments that kernels start from, one for each hook, which runs once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._base = session_free(os.environ)
        self._tasks: Dict[str, asyncio.Task[Dict[str, str]]] = {}

    async def after(self, hook: str) -> Mapping[str, str]:
        """The environment after the shell text `hook` ("": no hook) has run.

        Each start calls this. Raises RefusedError when the hook fails; it runs again next time.
        """
        if not hook:
            return self._base
        task = self._tasks.get(hook)
        if task is None:
            task = asyncio.ensure_future(environment_after(hook, self._base, self._directory))
            self._tasks[hook] = task
            task.add_done_callback(lambda task: self._done(hook, task))
        try:
            return session_free(await asyncio.shield(task))
        except (HookError, OSError) as error:  # OSError: disk full, or no descriptor free
            raise RefusedError(HOOK_FAILED, str(error)) from None

    def _done(self, hook: str, task: asyncio.Task[Dict[str, str]]) -> None:
        """Keep a result, but not a failure."""
        if (task.cancelled() or task.exception() is not None) and self._tasks.get(hook) is task:
            del self._tasks[hook]


class HookError(Exception):
    """The hook failed; the message says how."""


async def environment_after(hook: str, base: Mapping[str, str], directory: str) -> Dict[str, str]:
    """The environment that `hook` leaves behind when it starts from `base`. Raises HookError.

    The hook may print anything: the environment is passed in a file in `directory`.
    """
    path = await apart.turns.run(directory, lambda: _empty_file(directory))
    dump = " ".join(shlex.quote(word) for word in (sys.executable, "-I", "-S", "-c", _DUMP, path))
    script = '{}\n__status=$?; [ "$__status" -eq 0 ] || exit "$__status"\nexec {}\n'
    try:
        shell = await apart.run("PATH", lambda: shutil.which("bash") or "/bin/sh")
        argv = [shell, "-c", script.format(hook, dump)]
        done = await finished(argv, _SECONDS, base, keep_stdout=False)
        if done is None:
            raise HookError("did not end within {} s".format(_SECONDS))
        said = done.stderr.decode("utf-8", "replace").strip()[-_ERROR_BYTES:]
        if done.returncode:
            raise HookError("exit code {}: {}".format(done.returncode, said or "no output"))
        dumped = await apart.turns.run(directory, lambda: _content(path))
        pairs = [item.partition(b"=") for item in dumped.split(b"\0")]
        if pairs == [(b"", b"", b"")]:
            early = "a command in it ended its shell, such as `exit` or `exec`"
            raise HookError("{}: {}".format(early, said) if said else early)
    finally:
        apart.turns.begin(directory, lambda: os.unlink(path))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _empty_file(directory: str) -> str:
    import tempfile  # noqa: PLC0415 (an agent starts without)

    descriptor, path = tempfile.mkstemp(prefix="hook-", dir=directory)
    os.close(descriptor)
    return path


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
