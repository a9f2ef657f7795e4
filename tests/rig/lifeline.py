"""A process that ends, and tidies up, when this one does: however this one ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .command import PATH, RigError, program


class Lifeline:
    """A shell script whose standard input we hold.

    It says ``ready`` once, runs the lines that :meth:`tell` sends it, and takes ``break``, or the
    end of its input, for the order to clean up and go.  The kernel closes that pipe even if we are
    killed, so nothing stays behind after SIGTERM or SIGKILL, where no ``finally`` runs.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        # One pipe for all runs: tests that count our descriptors see no change by a reboot.
        self._input, self._orders = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._log} pid={self._process and self._process.pid}>"

    @property
    def running(self) -> bool:
        """Whether we started it and did not end it."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self, argv: Sequence[str], timeout: float = 10) -> None:
        """Start the script; return when it is ready."""
        with self._log.open("wb") as errors:
            self._process = subprocess.Popen(
                [program(argv[0]), *argv[1:]],
                stdin=self._input,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                cwd="/",
                # Not of our process group: Ctrl-C is for pytest, which then closes us in order.
                start_new_session=True,
            )
        assert self._process.stdout
        with self._process.stdout as output:
            readable, _, _ = select.select([output], [], [], timeout)
            ready = bool(readable) and output.readline() == b"ready\n"
        if not ready:
            self.kill(self.pid)
            raise RigError(f"{list(argv)} did not start: {self._log.read_text().strip()}")

    def tell(self, line: str) -> None:
        os.write(self._orders, line.encode() + b"\n")

    def kill(self, pid: int) -> None:
        """Kill the process of that pid, which is ours or makes ours end; wait for ours."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._wait()

    def close(self) -> None:
        """Let the process clean up and end, for good; a second call does nothing."""
        if self._orders < 0:
            return
        # In words: a child that was forked while we ran may hold the pipe open as well.
        self.tell("break")
        for descriptor in (self._orders, self._input):
            os.close(descriptor)
        self._input = self._orders = -1
        self._wait()

    def _wait(self, timeout: float = 10) -> None:
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
