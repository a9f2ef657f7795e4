"""The end of the thread that owns hosts and kernels."""

from __future__ import annotations

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
