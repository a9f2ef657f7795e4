"""A worker process: started, asked, and ended together with everything that it started."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]  # where the worker's interpreter finds it
MARK = "KERNEL_BENCHMARK_RUN"
# The worker keeps each step's limit itself, but a provisioner that blocks the event loop blocks
# that as well: the driver waits this much longer, then ends the process. It must outlast the
# worker's own clean-up of the failed step's kernel (15 s).
GRACE = 20.0


class StepFailed(Exception):
    """A step did not succeed; the worker can go on."""


class WorkerLost(Exception):
    """The worker ended, or did not answer in time and was ended."""


def _marked(mark: str) -> Iterator[int]:
    """Processes that inherited the mark: kernels and ssh masters, in sessions of their own."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Gone meanwhile, or not ours to read: either way not ours to end.
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def end_marked(mark: str) -> None:
    """End every process that carries the mark: politely, then not."""
    for signum, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        for pid in _marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        deadline = time.monotonic() + patience
        while any(_marked(mark)) and time.monotonic() < deadline:
            time.sleep(0.05)


class WorkerProcess:
    """A worker in a subject's interpreter; it ends, with all its descendants, at ``close``."""

    def __init__(
        self, python: Path, kernel_name: str, environ: Mapping[str, str], log: Path
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._log = log
        self._pending = b""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [str(python), "-m", f"{__package__}.worker", kernel_name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environ, MARK: self._mark},
                cwd=ROOT,
                start_new_session=True,
            )

    def __enter__(self) -> WorkerProcess:
        try:
            self._reply(60.0)  # the imports are done
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run_on(self, cores: Iterable[int]) -> None:
        """Every thread of the worker, and what it starts from now on."""
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)

    def ask(self, step: str, limit: float, **arguments: Any) -> dict[str, Any]:
        """The figures of one step, in seconds."""
        request = {"step": step, "limit": limit, "arguments": arguments}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerLost(self._last_words()) from None
        reply = self._reply(limit + GRACE)
        if "error" in reply:
            raise StepFailed(reply["error"])
        figures: dict[str, Any] = reply["figures"]
        return figures

    def close(self) -> None:
        """Let the worker shut its kernel down, then end whatever is left."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
            end_marked(self._mark)

    def _reply(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + limit
        while b"\n" not in self._pending:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self._process.stdout], [], [], remaining)[0]:
                self._process.kill()
                raise WorkerLost(f"the worker did not answer within {limit:g} s")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise WorkerLost(self._last_words())
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return f"the worker ended: {lines[-1] if lines else 'without a word'}"
