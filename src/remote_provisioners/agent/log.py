"""The agent's log: its standard output, and the system's log for operators.

A disk may hang, so a thread writes. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import queue
import syslog
import threading
from functools import partial
from typing import Any, Callable, Optional

#: The most lines that wait for a disk that hangs. Later lines are dropped.
_MOST_LINES = 1000


class _Writer:
    """Writes lines in their order, in a thread that does not delay the end of the process."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None

    def write(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # this user may start no more threads
                job()
                return
            self._thread = thread
        if self._jobs.qsize() < _MOST_LINES:
            self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception:  # without this thread, nothing would be written any more
                _print("a line could not be written")

    def finish(self, seconds: float) -> None:
        """Wait until everything is written."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(seconds)


_writer: Optional[_Writer] = None


def write_in_thread() -> None:
    """Write in a thread from now on. A process with an event loop calls this."""
    global _writer
    _writer = _Writer()


def finish(seconds: float = 1.0) -> None:
    """Wait until everything is written. Call this before the process ends."""
    global _writer
    writer, _writer = _writer, None
    if writer is not None:
        writer.finish(seconds)


def say(text: str) -> None:
    """Write a line. A failure (the disk is full) is ignored: the agent must go on."""
    _write(partial(_print, text))


def report(text: str) -> None:
    """Write a line for the operator: to the agent's log and to the system's."""
    say(text)
    _write(partial(_tell_system, text))


def _write(job: Callable[[], None]) -> None:
    if _writer is None:
        job()
    else:
        _writer.write(job)


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        pass


def _tell_system(text: str) -> None:
    syslog.openlog("remote-provisioners", syslog.LOG_PID, syslog.LOG_USER)
    syslog.syslog(syslog.LOG_NOTICE, text)
    syslog.closelog()
