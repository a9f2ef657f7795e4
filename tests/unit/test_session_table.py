"""The table of sessions follows jupyter_server's own session manager, without listing all again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.services.sessions.sessionmanager import SessionManager

from remote_provisioners.server.hooks.session_manager import session_named, watch_sessions
from remote_provisioners.server.session_table import SessionTable

SESSIONS = 3000
MOST_SECONDS = 0.005


class Kernels(AsyncMappingKernelManager):  # type: ignore[misc]
    """Every kernel is there, until it is culled."""

    culled = ""

    def __contains__(self, kernel_id: object) -> bool:
        return kernel_id != self.culled

    def kernel_model(self, kernel_id: str) -> dict[str, str]:
        return {"id": kernel_id}

    def update_env(self, *_: Any, **__: Any) -> None:
        pass

    async def shutdown_kernel(self, *_: Any, **__: Any) -> None:
        pass


class Listed(SessionManager):  # type: ignore[misc]
    """Counts how often all sessions are listed."""

    lists = 0

    async def list_sessions(self) -> Any:
        self.lists += 1
        return await super().list_sessions()


Make = Callable[[type[Listed]], Listed]


@pytest.fixture
def make() -> Iterator[Make]:
    with contextlib.ExitStack() as afterwards:

        def make(kind: type[Listed]) -> Listed:
            manager = kind(kernel_manager=Kernels())
            manager.get_kernel_env = lambda *_: {}  # which asks for the directory of its contents
            # close() leaves the connection open, and Python 3.13 warns of one that nobody closes.
            afterwards.callback(manager.connection.close)
            afterwards.callback(manager.close)
            return manager

        yield make


@pytest.fixture
def manager(make: Make) -> Listed:
    return make(Listed)


def new(manager: Any, path: str, kernel_id: str) -> Awaitable[Any]:
    return manager.create_session(path=path, name="", type="notebook", kernel_id=kernel_id)


def paths(sessions: Any) -> list[str]:
    return [session["path"] for session in sessions]


def test_what_becomes_of_sessions(manager: Listed) -> None:
    async def use() -> None:
        table = SessionTable(manager)
        table.watch()
        assert await table.of_kernels() == {}
        first = await new(manager, "a.ipynb", "one")
        await new(manager, "b.ipynb", "one")
        assert paths(await table.of_kernel("one")) == ["a.ipynb", "b.ipynb"]
        before = await table.of_kernels()
        await manager.update_session(first["id"], path="c.ipynb")
        assert paths(await table.of_kernel("one")) == ["b.ipynb", "c.ipynb"]
        assert paths(before["one"]) == ["a.ipynb", "b.ipynb"]
        await manager.update_session(session_id=first["id"], kernel_id="two")
        assert {k: paths(s) for k, s in (await table.of_kernels()).items()} == {
            "one": ["b.ipynb"],
            "two": ["c.ipynb"],
        }
        await manager.delete_session(first["id"])
        assert await table.of_kernel("two") == ()
        assert manager.lists == 1

    asyncio.run(use())


def test_a_session_whose_kernel_was_culled_is_over(manager: Listed) -> None:
    async def use() -> None:
        table = SessionTable(manager)
        table.watch()
        await new(manager, "a.ipynb", "one")
        assert paths(await table.of_kernel("one")) == ["a.ipynb"]
        manager.kernel_manager.culled = "one"
        await new(manager, "a.ipynb", "two")
        assert {k: paths(s) for k, s in (await table.of_kernels()).items()} == {"two": ["a.ipynb"]}

    asyncio.run(use())


def test_a_restored_session_is_known_and_told_to_nobody_else(manager: Listed) -> None:
    told: list[str] = []

    async def changed(session_id: str) -> None:
        told.append(session_id)

    async def use() -> None:
        table = SessionTable(manager)
        table.watch()
        watch_sessions(manager, changed)
        await table.of_kernels()
        with session_named("restored"):
            await new(manager, "a.ipynb", "one")
        assert paths(await table.of_kernel("one")) == ["a.ipynb"]
        made = await new(manager, "b.ipynb", "two")
        assert told == [made["id"]]

    asyncio.run(use())


class Slow(Listed):
    """Reads a session as slowly as from another machine."""

    async def get_session(self, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return await super().get_session(**kwargs)

    async def list_sessions(self) -> Any:
        found = await super().list_sessions()
        await asyncio.sleep(0)
        return found


def test_a_change_is_seen_while_somebody_else_reads_it(make: Make) -> None:
    async def use() -> None:
        manager = make(Slow)
        table = SessionTable(manager)
        table.watch()
        await table.of_kernels()
        await new(manager, "a.ipynb", "one")
        both = await asyncio.gather(table.of_kernel("one"), table.of_kernel("one"))
        assert [paths(sessions) for sessions in both] == [["a.ipynb"]] * 2

    asyncio.run(use())


def test_an_unknown_change_during_the_list_is_not_lost(make: Make) -> None:
    async def use() -> None:
        manager = make(Slow)
        table = SessionTable(manager)
        listing = asyncio.ensure_future(table.of_kernels())
        while not manager.lists:
            await asyncio.sleep(0)
        row = ("id", "a.ipynb", "", "notebook", "one")
        manager.cursor.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?)", row)
        await table.changed("")
        await listing
        assert paths(await table.of_kernel("one")) == ["a.ipynb"]

    asyncio.run(use())


def test_thousands_of_sessions_hold_no_event_loop(manager: Listed) -> None:
    async def seconds(ask: Callable[[], Awaitable[Any]]) -> float:
        found = []
        for _ in range(5):
            began = time.thread_time()
            await ask()
            found.append(time.thread_time() - began)
        return min(found)  # one may fall into a collection of garbage

    async def use() -> None:
        rows = [(str(n), f"{n}.ipynb", "", "notebook", f"kernel-{n}") for n in range(SESSIONS)]
        manager.cursor.executemany("INSERT INTO session VALUES (?, ?, ?, ?, ?)", rows)
        table = SessionTable(manager)
        table.watch()
        assert len(await table.of_kernels()) == SESSIONS

        async def rename() -> None:
            await table.changed("7")
            assert len(await table.of_kernels()) == SESSIONS

        assert await seconds(rename) < MOST_SECONDS
        assert manager.lists == 1

    asyncio.run(use())
