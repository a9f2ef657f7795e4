"""A process of this machine that carries a pipe on its stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence

from .... import forks
from ....agent.pipe.descriptors import enlarge_pipe
from ..base import Carried

_READ_BYTES = 256 * 1024
_EXIT_SECONDS = 2.0
_LOOK_SECONDS = 0.01
#: How long it may take to end after SIGTERM, and after SIGKILL.
_ASKED_SECONDS, _KILLED_SECONDS = 0.05, 0.2


def first_directory(login: Mapping[str, str]) -> str:
    """Where a login begins: in the home directory, or in ``/`` if that is missing."""
    return login["HOME"] if os.path.isdir(login["HOME"]) else "/"


class ProcessCarrier:
    """Starts its process at once. Reports to a PipeStart."""

    def __init__(
        self,
        argv: Sequence[str],
        start: Carried,
        login: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Raises OSError.

        `login`: the environment of a login, for a process that begins in the home directory.
        `environ`: another environment than ours, without that.

        The process has a session of its own: it cannot ask questions at a terminal, and Ctrl-C
        there does not end it.
        """
        self._loop = asyncio.get_running_loop()
        self._start = start
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=login if login is not None else environ,
            cwd=first_directory(login) if login is not None else None,
            start_new_session=True,
        )
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        for file in (stdin, stdout, stderr):
            os.set_blocking(file.fileno(), False)
        enlarge_pipe(stdout.fileno())
        forks.watch(self)
        self._unwritten: deque[memoryview] = deque()
        self._closing = self._ended = False
        self._until: float | None = None
        start.begin(self)
        self._loop.add_reader(stdout.fileno(), self._read)
        self._loop.add_reader(stderr.fileno(), self._read_errors)

    def after_fork(self) -> None:
        """Let go of the process, which ends with the parent."""
        files = (self._stdin, self._stdout, self._stderr)
        forks.close_in_child([file.fileno() for file in files if not file.closed])

    # -- Carrier ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._closing or self._ended:
            return
        waited = bool(self._unwritten)
        self._unwritten.append(memoryview(data))
        if not waited:
            self._write()
            if self._unwritten and not self._ended:
                self._loop.add_writer(self._stdin.fileno(), self._write_more)
                self._start.pause_writing()

    def close(self) -> None:
        self._closing = True
        if not self._unwritten:
            self._close_stdin()

    def abort(self) -> None:
        if not self._ended:
            # SIGTERM first: ssh then removes the socket of its master connection.
            self._signal(signal.SIGTERM)
            ending = asyncio.ensure_future(asyncio.sleep(_ASKED_SECONDS))
            ending.add_done_callback(self._reap)  # also when the loop ends before that
            self._finish()

    # -- its descriptors --------------------------------------------------------------------

    def _write(self) -> None:
        while self._unwritten:
            piece = self._unwritten[0]
            try:
                size = os.write(self._stdin.fileno(), piece)
            except BlockingIOError:
                return
            except OSError:  # nobody reads any more: stdout will reach its end too
                self._unwritten.clear()
                return
            if size < len(piece):
                self._unwritten[0] = piece[size:]
                return
            self._unwritten.popleft()

    def _write_more(self) -> None:
        self._write()
        if not self._unwritten:
            self._loop.remove_writer(self._stdin.fileno())
            if self._closing:
                self._close_stdin()
            else:
                self._start.resume_writing()

    def _read(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._start.data_received(data)
        else:
            self._loop.remove_reader(self._stdout.fileno())
            self._close_stdin()
            self._await_exit()

    def _read_errors(self) -> None:
        try:
            data = os.read(self._stderr.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._start.errors_received(data)
        else:
            self._loop.remove_reader(self._stderr.fileno())

    def _close_stdin(self) -> None:
        if not self._stdin.closed:
            self._loop.remove_writer(self._stdin.fileno())
            self._stdin.close()

    # -- its end ----------------------------------------------------------------------------

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _reap(self, waited: asyncio.Future[None]) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILLED_SECONDS)

    def _await_exit(self) -> None:
        """The process has closed stdout: wait until it ends, then abort it."""
        if self._ended:
            return
        if self._until is None:
            self._until = self._loop.time() + _EXIT_SECONDS
        if self._process.poll() is not None:
            self._read_errors()
            self._finish()
        elif self._loop.time() > self._until:
            self.abort()
        else:
            self._loop.call_later(_LOOK_SECONDS, self._await_exit)

    def _finish(self) -> None:
        self._ended = True
        self._close_stdin()
        for file in (self._stdout, self._stderr):
            self._loop.remove_reader(file.fileno())
            file.close()
        self._unwritten.clear()
        self._start.ended(self._process.returncode)
