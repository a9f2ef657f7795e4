"""The thread that owns every connection, channel and forward of this process.

Callers may run on any event loop or on none; jupyter_client's blocking manager runs its loop only
during a call. Work that must continue between calls runs here.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from . import forks
from .user import database_entry

T = TypeVar("T")
Owned = TypeVar("Owned", bound="Closable")

_CLOSE_SECONDS = 10.0

log = logging.getLogger(__name__)


class Call(Protocol):
    """Runs a coroutine where hosts and kernels live, and awaits it here."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]: ...


class Closable(Protocol):
    """An object that the thread can own."""

    async def close(self) -> None:
        """Release everything."""


class IOThread:
    """An event loop in a daemon thread, with the objects that live in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._owned: dict[type[Any], Any] = {}
        self._thread = threading.Thread(target=self._run, name="remote-provisioners", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        database_entry()
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` in the thread and await it here. Cancelling here cancels it there."""
        done = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        result = asyncio.wrap_future(done)
        with _woken_by(done) if _forked else contextlib.nullcontext():
            return await result

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `coroutine` in the thread. Any thread may look at the future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call_blocking(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """The same for a caller without a loop. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def own(self, kind: type[Owned], make: Callable[[], Owned] | None = None) -> Owned:
        """The thread's one object of this class. The first call creates it. Before the thread ends,
        its objects are closed, the newest first. Call this in the thread.
        """
        if kind not in self._owned:
            self._owned[kind] = (make or kind)()
        found: Owned = self._owned[kind]
        return found

    def descriptors(self) -> set[int]:
        """The descriptors of the connections that the loop knows."""
        registered = getattr(self._loop, "_selector", None)
        found = set(registered.get_map() or ()) if registered is not None else set()
        # The loop still lists closed transports. Another file may have their number by now.
        transports = list(getattr(self._loop, "_transports", {}).values())
        sockets = [transport.get_extra_info("socket") for transport in transports]
        return found | {each.fileno() for each in sockets if each is not None} - {-1}

    def close(self) -> None:
        """Close the owned objects, end the tasks and the thread."""

        async def finish() -> None:
            for owned in reversed(list(self._owned.values())):
                try:
                    await owned.close()
                except Exception:  # the other objects must be closed all the same
                    log.exception("%s could not be closed", type(owned).__name__)
            # A task that is cancelled may begin another one: to end a process.
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        try:
            self.call_blocking(finish(), _CLOSE_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_SECONDS)


@contextlib.contextmanager
def _woken_by(done: Future[Any]) -> Iterator[None]:
    """Wake the running loop when `done` is, by a pipe of its own.

    A program may run a loop, fork, and use the loop again in each child, as jupyter_client's
    blocking classes do. These loops share the pipe that threads wake them by: any child may take
    the wake-up of another, which then sleeps for ever. They also share an epoll, which tells each
    child what another's descriptor of the same number has.
    """
    loop = asyncio.get_running_loop()
    reader, writer = socket.socketpair()
    reader.setblocking(False)

    def woken() -> None:
        with contextlib.suppress(BlockingIOError):  # it was another child's
            reader.recv(1)
            loop.remove_reader(reader)

    try:
        loop.add_reader(reader, woken)
        done.add_done_callback(lambda _: writer.close())
        yield
    finally:
        loop.remove_reader(reader)
        reader.close()
        writer.close()


#: Whether a process that had imported this module has forked this one.
_forked = False
_current: tuple[int, IOThread] | None = None
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock, _forked
    _forked = True
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _current is not None:
        forks.close_in_child(_current[1].descriptors())


os.register_at_fork(after_in_child=_after_fork)


def io_thread() -> IOThread:
    """This process's thread. The first call starts it, also in a forked child."""
    global _current
    with _lock:
        if _current is None or _current[0] != os.getpid():
            _current = (os.getpid(), IOThread())
        return _current[1]


async def here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the caller's loop: the caller is in the I/O thread or needs none."""
    return await coroutine


async def in_io_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` in this process's I/O thread and await it here."""
    return await io_thread().call(coroutine)


def from_any_loop(coroutine: Coroutine[Any, Any, T], timeout: float) -> Any:
    """What `coroutine` returns, for a caller without a running loop; else what is to be awaited."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return io_thread().call_blocking(coroutine, timeout)
    return in_io_thread(coroutine)


def close_io_thread() -> None:
    """End the thread and everything that it owns. The next caller gets a new thread."""
    global _current
    with _lock:
        closing, _current = _current, None
    if closing is not None and closing[0] == os.getpid():
        closing[1].close()


atexit.register(close_io_thread)
