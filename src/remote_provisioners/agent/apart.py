"""Runs what may block apart from the agent's loop, in threads: on a dead NFS server, any look at a
file takes for ever.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import errno
import queue
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple, TypeVar

from .background import report_failure

_T = TypeVar("_T")
#: Gets a result, or the error.
Done = Callable[[Any, Optional[BaseException]], None]
#: Calls a function somewhere, then Done.
Begin = Callable[[Callable[[], Any], Done], None]

#: How long to wait for a file system.
SECONDS = 5.0
#: Further calls wait for a thread. Each thread may be stuck.
MOST_THREADS = 32


class Threads:
    """Threads that do not hold up the end of the process when they are stuck."""

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self._count = 0
        self._idle: List[queue.SimpleQueue[Any]] = []
        self._waiting: Deque[Any] = deque()

    def begin(self, function: Callable[[], Any], done: Done) -> None:
        """Call `function` in a thread, then `done` in the loop."""
        job = (asyncio.get_running_loop(), function, done)
        if self._idle:
            self._idle.pop().put(job)
        elif self._count < self._most:
            jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
            jobs.put(job)
            try:
                threading.Thread(target=self._work, args=(jobs,), daemon=True).start()
            except RuntimeError:  # this user may start no more of them
                if self._count:
                    self._waiting.append(job)
                else:
                    at_once(function, done)
            else:
                self._count += 1
        else:
            self._waiting.append(job)

    def _work(self, jobs: queue.SimpleQueue[Any]) -> None:
        while True:
            loop, function, done = jobs.get()
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(self._over, jobs, done, result, error)
            except RuntimeError:  # the loop is closed
                self._idle.append(jobs)

    def _over(
        self,
        jobs: queue.SimpleQueue[Any],
        done: Done,
        result: Any,
        error: Optional[BaseException],
    ) -> None:
        if self._waiting:
            jobs.put(self._waiting.popleft())
        else:
            self._idle.append(jobs)
        done(result, error)


_threads = Threads()
#: The files for which somebody has waited in vain.
_stuck: Set[str] = set()
_HANGS = "no answer within {:g} s: the file system hangs"


async def run(
    what: str,
    function: Callable[[], _T],
    late: Callable[[_T], None] = lambda result: None,
    seconds: float = SECONDS,
) -> _T:
    """Call `function` in a thread. `what`: the files that it looks at.

    Raises what it raises, and OSError after `seconds`. It goes on then, and `late` is called with
    its result. Until that, calls for the same files are refused at once.
    """
    if what in _stuck:
        raise OSError(errno.ETIMEDOUT, _HANGS.format(seconds), what)
    ended = False

    def begin(done: Done) -> None:
        def over(result: Any, error: Optional[BaseException]) -> None:
            nonlocal ended
            ended = True
            _stuck.discard(what)
            done(result, error)

        _threads.begin(function, over)

    try:
        return await _result(what, begin, late, seconds)
    except OSError:
        if not ended:
            _stuck.add(what)
        raise


def begin(function: Callable[[], Any], done: Done) -> None:
    """Call `function` in a thread, then `done` in the loop."""
    _threads.begin(function, done)


def at_once(function: Callable[[], Any], done: Done) -> None:
    """Call `function` here and now, then `done`."""
    result, error = None, None
    try:
        result = function()
    except Exception as raised:
        error = raised
    done(result, error)


class Turns:
    """Runs functions in threads: those of one directory one after the other."""

    def __init__(self) -> None:
        # By directory: what waits, in its loop.
        self._waiting: Dict[str, Tuple[asyncio.AbstractEventLoop, Deque[Any]]] = {}

    async def run(self, directory: str, function: Callable[[], _T], seconds: float = SECONDS) -> _T:
        """Like the function above, after the earlier calls for `directory`."""

        def begin(done: Done) -> None:
            self.begin(directory, function, done)

        return await _result(directory, begin, lambda result: None, seconds)

    def begin(
        self, directory: str, function: Callable[[], Any], done: Optional[Done] = None
    ) -> None:
        """Call `function` after the earlier calls for `directory`, then `done`."""
        loop = asyncio.get_running_loop()
        found = self._waiting.get(directory)
        if found is not None and found[0] is loop:
            found[1].append((function, done))
        else:
            self._waiting[directory] = (loop, deque())
            self._start(directory, function, done)

    def _start(self, directory: str, function: Callable[[], Any], done: Optional[Done]) -> None:
        def over(result: Any, error: Optional[BaseException]) -> None:
            _, waiting = self._waiting[directory]
            if waiting:
                self._start(directory, *waiting.popleft())
            else:
                del self._waiting[directory]
            if done is not None:
                done(result, error)
            elif error is not None:
                report_failure("work on {}".format(directory), error)

        _threads.begin(function, over)


#: For the directories of this agent.
turns = Turns()


async def _result(
    what: str, begin: Callable[[Done], None], late: Callable[[_T], None], seconds: float
) -> _T:
    answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

    def done(result: Any, error: Optional[BaseException]) -> None:
        if answer.done():  # nobody waits any more
            if error is None:
                late(result)
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    begin(done)
    try:
        # Before Python 3.12, wait_for loses a cancellation that comes together with the answer.
        await asyncio.wait([answer], timeout=seconds)
    except asyncio.CancelledError:
        if answer.done() and answer.exception() is None:
            late(answer.result())
        raise
    finally:
        answer.cancel()  # unless it is done
    if answer.cancelled():
        raise OSError(errno.ETIMEDOUT, _HANGS.format(seconds), what)
    return answer.result()
