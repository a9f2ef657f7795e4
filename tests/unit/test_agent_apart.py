"""What may block is done apart from the agent's loop."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.agent import apart
from remote_provisioners.agent.processes import programs

from ..conftest import eventually


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


def test_a_result_an_error_and_no_answer() -> None:
    stuck, late = threading.Event(), []

    async def body() -> None:
        assert await apart.run("", lambda: 6 * 7) == 42
        with pytest.raises(ZeroDivisionError):
            await apart.run("", lambda: 1 // 0)
        with pytest.raises(OSError, match="the file system hangs") as told:
            await apart.run("/data", lambda: stuck.wait() and "at last", late.append, seconds=0.05)
        assert told.value.filename == "/data"
        stuck.set()
        while late != ["at last"]:
            await asyncio.sleep(0.01)

    run(body())


def test_an_error_of_the_file_system_is_not_a_call_that_hangs() -> None:
    """A network file system may say itself that its server does not answer, and answer later."""

    def refuse() -> None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), "/data")

    async def body() -> None:
        with pytest.raises(TimeoutError):
            await apart.run("/data", refuse)
        assert await apart.run("/data", lambda: 42) == 42

    run(body())


class Held:
    """Instead of threads: each call has ended when the test says so."""

    def begin(self, function: Callable[[], Any], done: apart.Done) -> None:
        self.end = done


def test_a_cancellation_together_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts: otherwise an agent that ends waits for ever for what looks again and again."""
    held, late = Held(), []
    monkeypatch.setattr(apart, "_threads", held)

    async def body() -> None:
        task = asyncio.ensure_future(apart.run("/data", lambda: None, late.append))
        await asyncio.sleep(0)
        held.end("descriptor", None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert late == ["descriptor"]

    run(body())


def test_more_calls_than_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_threads", apart.Threads(most=2))
    stuck = threading.Event()

    async def body() -> None:
        calls = [asyncio.ensure_future(apart.run("", stuck.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        third = asyncio.ensure_future(apart.run("", threading.get_ident))
        await asyncio.sleep(0.05)
        assert not third.done()
        stuck.set()
        assert await asyncio.gather(*calls) == [True, True]
        assert await third != threading.get_ident()

    run(body())


def test_of_one_directory_one_after_the_other() -> None:
    first, order = threading.Event(), []

    async def body() -> None:
        turns = apart.Turns()
        turns.begin("/a", lambda: first.wait() and order.append("a1"))
        turns.begin("/a", lambda: 1 // 0)  # the log says it
        last = asyncio.ensure_future(turns.run("/a", lambda: order.append("a2")))
        await turns.run("/b", lambda: order.append("b"))
        with pytest.raises(OSError, match="the file system hangs"):
            await turns.run("/a", lambda: order.append("a3"), seconds=0.05)
        first.set()
        await last
        await turns.run("/a", lambda: None)
        assert order == ["b", "a1", "a2", "a3"]

    run(body())


def test_without_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `ulimit -u`: what can be done is done."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = apart.Threads()
    monkeypatch.setattr(apart, "_threads", threads)

    async def body() -> None:
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            assert await apart.run("", threading.get_ident) == threading.get_ident()
        assert await apart.run("", threading.get_ident) != threading.get_ident()
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            both = [apart.run("", threading.get_ident) for _ in range(2)]
            assert threading.get_ident() not in await asyncio.gather(*both)

    run(body())


def test_a_program_that_nobody_waits_for_is_killed(tmp_path: Path) -> None:
    """With what it has started: the agent ends while an environment hook runs."""
    pids = tmp_path / "pids"

    async def body() -> None:
        argv = ["sh", "-c", f"sleep 60 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; wait"]
        running = asyncio.ensure_future(programs.finished(argv, 60))
        while not pids.exists():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(body())
    for pid in pids.read_text().split():
        eventually(lambda pid=pid: ended(pid))


def ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
