"""The end of the thread that owns hosts and kernels."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remote_provisioners.io_thread import IOThread

CLOSED: list[str] = []


class Older:
    async def close(self) -> None:
        CLOSED.append("older")


class Newer:
    async def close(self) -> None:
        raise RuntimeError("a bug")


def test_an_object_that_cannot_be_closed_keeps_no_other_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    CLOSED.clear()
    thread = IOThread()

    async def own(kind: Any) -> None:
        thread.own(kind)

    for kind in (Older, Newer):
        thread.call_blocking(own(kind), 5)
    thread.close()
    assert CLOSED == ["older"]
    assert caplog.messages == ["Newer could not be closed"]


def test_a_task_that_begins_another_one_when_it_is_cancelled() -> None:
    thread, ended, tasks = IOThread(), [], []

    async def waits(name: str, then: str = "") -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
            if then:
                tasks.append(asyncio.ensure_future(waits(then)))
                await asyncio.sleep(0)

    thread.begin(waits("first", then="second"))

    async def begun() -> None:
        await asyncio.sleep(0)

    thread.call_blocking(begun(), 5)
    thread.close()
    assert ended == ["first", "second"]
