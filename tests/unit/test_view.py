"""What a server tells of thousands of kernels holds no event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

from remote_provisioners.kernels.lifecycle import State
from remote_provisioners.server.api.base import as_json
from remote_provisioners.server.session_table import SessionTable
from remote_provisioners.server.view import view as view_module
from remote_provisioners.server.view.view import View

KERNELS = 3000
MOST_SECONDS = 0.005


def kernel(number: int) -> Any:
    life = SimpleNamespace(
        unreachable=False, state=State.RUNNING, exit_code=None, reason="", unreachable_since=None
    )
    return SimpleNamespace(
        kernel_id=f"kernel-{number}",
        spec=SimpleNamespace(name=f"host{number % 300}"),
        life=life,
        connection={},
        pid=number,
        cwd="/home/me",
        gpus=(),
        way="forked",
        started=0.0,
        lease=100.0,
        grace=600.0,
    )


class Manager(dict[str, Any]):
    def get_kernel(self, kernel_id: str) -> Any:
        return self[kernel_id]


class Sessions:
    """The session manager of a server."""

    lists = 0
    kernel_manager = frozenset(f"kernel-{number}" for number in range(KERNELS))

    async def list_sessions(self) -> list[dict[str, Any]]:
        self.lists += 1
        return [
            {
                "id": str(number),
                "path": f"{number}.ipynb",
                "name": "",
                "type": "notebook",
                "kernel": {"id": f"kernel-{number}"},
            }
            for number in range(KERNELS)
        ]


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch, sessions: Sessions) -> View:
    kernels = [kernel(number) for number in range(KERNELS)]

    async def registry() -> Any:
        return SimpleNamespace(kernels=kernels, hosts={})

    monkeypatch.setattr(view_module, "host_registry", registry)
    shown = SimpleNamespace(kernel_name="remote", execution_state="idle", last_activity=None)
    manager = Manager({found.kernel_id: shown for found in kernels})
    configuration: Any = None
    return View(manager, SessionTable(sessions), configuration, lambda _: None, lambda _: None)


class Steps:
    """Awaits a coroutine and measures the processor time of each of its steps."""

    def __init__(self, coroutine: Any) -> None:
        self.seconds: list[float] = []
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        value = None
        while True:
            began = time.thread_time()
            try:
                awaited = self._coroutine.send(value)
            except StopIteration as over:
                return over.value
            finally:
                self.seconds.append(time.thread_time() - began)
            value = yield awaited


def test_no_step_of_a_long_answer_holds_the_event_loop(view: View, sessions: Sessions) -> None:
    async def answer() -> tuple[Any, list[float]]:
        await view.kernels()  # with the list of sessions, which is the server's
        steps = Steps(view.kernels())
        return await steps, steps.seconds

    found, seconds = asyncio.run(answer())
    assert len(found["kernels"]) == KERNELS
    assert found["kernels"][7]["notebook"]["path"] == "7.ipynb"
    assert sessions.lists == 1
    assert len(seconds) > KERNELS / 100
    # Of the processor alone; one step may fall into a collection of garbage.
    assert sorted(seconds)[-2] < MOST_SECONDS


@pytest.mark.parametrize(
    "model", [{}, {"a": 1, "b": ["ä", None]}, {"kernels": [{"n": n} for n in range(1000)]}, [1, 2]]
)
def test_long_lists_are_written_as_others(model: Any) -> None:
    assert json.loads(as_json(model)) == model
