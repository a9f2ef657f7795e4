"""Programs that the agent runs to their end. Their files may hang, so a thread starts them.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from typing import List, Mapping, NamedTuple, Optional, Sequence

from .. import apart


class Finished(NamedTuple):
    """How a program ended, and what it printed."""

    returncode: int
    stdout: bytes
    stderr: bytes


async def finished(
    argv: Sequence[str],
    seconds: float,
    env: Optional[Mapping[str, str]] = None,
    stdin: bytes = b"",
    keep_stdout: bool = True,
) -> Optional[Finished]:
    """Run a program in a separate session. If it does not end in time, kill it and return None.

    A cancelled call kills it, too, such as at the agent's end. `keep_stdout`: keep its stdout in
    memory, otherwise drop it. Raises OSError when it cannot be started.
    """
    started: List[subprocess.Popen[bytes]] = []
    given_up = threading.Event()
    try:
        # The limit of the thread is for a program whose file hangs.
        return await apart.run(
            argv[0],
            lambda: _run(
                argv, seconds, env, stdin, keep_stdout, started=started, given_up=given_up
            ),
            seconds=seconds + apart.SECONDS,
        )
    except asyncio.CancelledError:
        given_up.set()
        for process in started:
            _kill(process)
        raise


def _run(
    argv: Sequence[str],
    seconds: float,
    env: Optional[Mapping[str, str]],
    stdin: bytes,
    keep_stdout: bool,
    *,
    started: List[subprocess.Popen[bytes]],
    given_up: threading.Event,
) -> Optional[Finished]:
    process = subprocess.Popen(
        list(argv),
        env=None if env is None else dict(env),
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE if keep_stdout else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    started.append(process)
    if given_up.is_set():  # the call was cancelled while the program started
        _kill(process)
    try:
        stdout, stderr = process.communicate(stdin or None, seconds)
        return Finished(process.returncode, stdout or b"", stderr)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            _kill(process)
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:  # its children may keep the other end open
                pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and its children."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
