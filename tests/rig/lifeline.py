"""A process that ends, and tidies up, when this one does: however this one ends."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .command import PATH, RigError, program


class Lifeline:
    """A shell script whose standard input we hold.

    It says ``ready`` once, runs the lines that :meth:`tell` sends it, and takes the end of its
    input for the order to clean up and go.  The kernel closes that pipe even if we are killed,
    so nothing stays behind after SIGTERM or SIGKILL, where no ``finally`` runs.
    """

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [program(argv[0]), *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                cwd="/",
                # Not of our process group: Ctrl-C is for pytest, which then closes us in order.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} status={self._process.returncode}>"

    def wait_ready(self, timeout: float = 10) -> None:
        assert self._process.stdout
        readable, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not readable or self._process.stdout.readline() != b"ready\n":
            self.close()
            raise RigError(f"{self._process.args!r} did not start: {self._log.read_text().strip()}")

    def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def close(self, timeout: float = 10) -> None:
        """End the input and wait for the process to end; a second call does nothing."""
        try:
            # Popen's own clean-up: it closes both pipes, and forgives a broken one.
            self._process.communicate(timeout=timeout)
        except ValueError:  # closed before
            pass
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
