"""The doctor's time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from remote_provisioners.cli.doctor.engine import EngineExamination
from remote_provisioners.io_thread import close_io_thread


@pytest.fixture(autouse=True)
def io_thread() -> Iterator[None]:
    yield
    close_io_thread()


def test_an_engine_that_does_not_answer() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    engine = SimpleNamespace(name="Queue", checks=lambda: [("controller", never)])
    options: Any = SimpleNamespace(engine=lambda _: engine)
    examined = EngineExamination("queued", options, 0.05).run()
    found = asyncio.run(asyncio.wait_for(examined, 30))
    assert [(check.check, check.ok, check.seen) for check in found.checks] == [
        ("controller", False, "no answer within 0.05 s (--timeout)")
    ]
