"""Measures for how long a thread sleeps in a system call, whatever else this machine does.

We look at the thread again and again. If it is in a system call at two looks, and the number of its
voluntary context switches is the same, it has slept in this call all the time. So it did not wait
for a processor.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: System calls by their numbers on x86-64. In the first ones a loop waits for work (epoll_wait,
#: epoll_pwait). In the others it waits for another of our threads (futex: Python's own lock) or for
#: a program to begin (vfork).
_FOR_WORK = (232, 281)
_FOR_US = (202, 56, 58, 435)
#: A thread hands over Python's lock every 5 ms, if it has a processor.
_LONG_SECONDS = 1.0


class Sleeps:
    """The longest sleeps of a thread: seconds, by the system call's number."""

    def __init__(self, pid: int, thread: int) -> None:
        self._place = Path(f"/proc/{pid}/task/{thread}")
        self.longest: dict[int, float] = {}
        self.looks = 0
        self._over = threading.Event()

    def late(self, seconds: float) -> dict[int, float]:
        """The system calls in which the thread has slept for longer."""
        limits = dict.fromkeys(_FOR_US, _LONG_SECONDS)
        return {n: took for n, took in self.longest.items() if took > limits.get(n, seconds)}

    def watch(self) -> None:
        since, before = 0.0, (-1, -1)
        while not self._over.wait(0.0005):
            try:
                now = self._look()
            except (OSError, ValueError):  # it has ended
                now = (-1, -1)
            looked = time.monotonic()
            self.looks += 1
            if now != before:
                since, before = looked, now
            elif now[0] >= 0 and now[0] not in _FOR_WORK:
                self.longest[now[0]] = max(self.longest.get(now[0], 0.0), looked - since)

    def _look(self) -> tuple[int, int]:
        """The system call (-1: it runs) and the switches so far, which did not change meanwhile."""
        before = self._switches()
        word = (self._place / "syscall").read_text().split()[0]
        if word == "running" or self._switches() != before:
            return -1, -1
        return int(word), before

    def _switches(self) -> int:
        for line in (self._place / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                return int(line.split()[1])
        return -2

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def sleeps_of(pid: int, thread: int = 0) -> Iterator[Sleeps]:
    """The sleeps of a thread (by default the process's first one) during the block."""
    sleeps = Sleeps(pid, thread or pid)
    watching = threading.Thread(target=sleeps.watch)
    watching.start()
    try:
        yield sleeps
    finally:
        sleeps.end()
        watching.join()
        print(f"{sleeps.looks} looks; longest sleeps: {sleeps.longest}")
