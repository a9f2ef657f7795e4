"""A template process and the connection to it.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from functools import partial
from typing import Callable, Mapping, Optional, Protocol, Sequence

from ...protocol.wire import Message
from .. import apart
from ..log import say
from ..processes.kernel_process import Command, open_output
from .template_connection import receive, send
from .template_program import spawn

LOAD_SECONDS = 15.0
FORK_SECONDS = 10.0
RETRY_SECONDS = 60.0


class Process(Protocol):
    """A child of this process. subprocess.Popen has these methods, and so has Child."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> Optional[int]: ...


class Child:
    """A child that somebody else than subprocess has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: Optional[int] = None

    def poll(self) -> Optional[int]:
        """Its status if it has ended, and reap it."""
        if self._ended is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            self._ended = status if pid else None
        return self._ended


class Template:
    """A template process and the connection to it. `stale`: a file that it imported has changed."""

    def __init__(
        self, program: str, connection: socket.socket, begin: Callable[[], Process]
    ) -> None:
        """`begin` starts the process, which loads on its own. Raises OSError."""
        self.stale = False
        self._program = program
        self._failed = ""
        self._failed_at = 0.0
        self._has_forked = False
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._connection.setblocking(False)
        self._process: Optional[Process] = None
        self._closed = False
        self._begin = begin
        self._ready = asyncio.ensure_future(self._load())
        self._turn = asyncio.Lock()

    @classmethod
    def spawn(
        cls,
        program: Sequence[str],
        kernel_argv: Sequence[str],
        environ: Mapping[str, str],
        cwd: str,
        preload: Sequence[str],
    ) -> Template:
        """Start the process: see template_program.py."""
        connection, theirs = socket.socketpair()
        begin = partial(spawn, program, kernel_argv, environ, cwd, preload, connection=theirs)
        return cls(program[0], connection, begin)

    @classmethod
    def handed(cls, program: str, descriptor: int, pid: int) -> Template:
        """A template that was loaded before this agent ran. It is our child."""
        os.set_inheritable(descriptor, False)
        return cls(program, socket.socket(fileno=descriptor), lambda: Child(pid))

    @property
    def over(self) -> bool:
        """Whether it is useless and should be replaced."""
        return self.stale or (
            self._failed != "" and self._loop.time() - self._failed_at > RETRY_SECONDS
        )

    async def _load(self) -> None:
        try:
            self._process = await apart.run(self._program, self._begin, late=_kill)
            if self._closed:
                _kill(self._process)
                return
            said = await asyncio.wait_for(receive(self._connection), LOAD_SECONDS)
            failed = said.get("failed", "")
        except asyncio.TimeoutError:
            failed = "not loaded within {:g} s".format(LOAD_SECONDS)
        except (OSError, EOFError) as error:
            failed = "it ended" if self._process is not None else str(error)
        if failed:
            self._fail(failed)

    def _fail(self, why: str) -> None:
        self._failed, self._failed_at = why, self._loop.time()
        say("kernels of {} are spawned: {}".format(self._program, why))
        self.close()

    async def fork(self, command: Command, flags: Sequence[str], waits: bool) -> Optional[int]:
        """Fork a kernel as our child. Returns None if it has to be spawned. Raises OSError."""
        async with self._turn:
            await asyncio.shield(self._ready)
            if self._failed or self.stale:
                return None
            request = {
                "argv": command.argv,
                "flags": flags,
                "env": command.environ,
                "cwd": command.cwd,
                "umask": _umask(),
                "waits": waits,
            }
            log = await apart.run(
                command.output, lambda: open_output(command.output), late=os.close
            )
            try:
                answer = await asyncio.wait_for(
                    self._ask(request, [log, *command.descriptors]), FORK_SECONDS
                )
            except asyncio.TimeoutError:
                self._fail("the template does not answer")
                raise OSError(
                    errno.ETIMEDOUT, "the template does not answer", command.argv[0]
                ) from None
            except (OSError, EOFError):
                if self._has_forked:  # somebody killed it: a new template may work
                    self.stale = True
                    self.close()
                else:
                    self._fail("the template ended")
                return None
            finally:
                os.close(log)
        if "stale" in answer:
            say("a template is replaced, because {} has changed".format(answer["stale"]))
            self.stale = True
            self.close()
            return None
        if answer["error"] is not None:
            os.waitpid(answer["pid"], 0)
            raise OSError(*answer["error"])
        self._has_forked = True
        return int(answer["pid"])

    async def _ask(self, request: Message, descriptors: Sequence[int]) -> Message:
        await send(self._connection, request, descriptors)
        return await receive(self._connection)

    @property
    def pid(self) -> int:
        """0 until it runs."""
        return self._process.pid if self._process is not None else 0

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a kernel from it."""
        return self._turn.locked()

    def close(self) -> None:
        """End it and its successor. Its kernels go on: they have sessions of their own."""
        self._closed = True
        self._connection.close()
        if self._process is not None:
            _kill(self._process)


def _kill(process: Process) -> None:
    if process.poll() is None:  # until we reap it, its pid names its own group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.poll()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
