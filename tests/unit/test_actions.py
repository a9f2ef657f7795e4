"""What a page does with kernels, whatever they do at that moment."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from remote_provisioners.errors import KernelStartError, UnreachableError
from remote_provisioners.io_thread import close_io_thread
from remote_provisioners.server.view import view as view_module
from remote_provisioners.server.view.actions import Actions


class Moving(AsyncKernelManager):
    """A kernel in the manager of a server with `use_pending_kernels`."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.provisioner: Any = SimpleNamespace(move_to=self._move_to)
        self._ready = asyncio.get_running_loop().create_future()

    async def _move_to(self, host: str) -> None:
        self.done.append(f"move to {host}")

    async def restart_kernel(self, now: bool = False, **_: Any) -> None:
        self.done.append("restart")


def moved(kernel: Moving) -> Any:
    """A request to move the kernel."""
    manager: Any = AsyncMultiKernelManager(use_pending_kernels=True)
    manager._kernels["k1"] = kernel

    async def model(kernel_id: str) -> Any:
        return {"id": kernel_id}

    view: Any = SimpleNamespace(of_this_server=model, kernel=model)
    return asyncio.ensure_future(Actions(manager, None, "", view).move("k1", "host2"))


def test_a_kernel_that_starts_moves_after_its_start() -> None:
    async def use() -> None:
        kernel = Moving()
        request = moved(kernel)
        await asyncio.wait([request], timeout=0.05)
        assert not request.done()
        kernel.ready.set_result(None)
        assert await request == {"id": "k1"}
        assert kernel.done == ["move to host2", "restart"]

    asyncio.run(use())


def test_a_kernel_that_does_not_start_does_not_move() -> None:
    async def use() -> None:
        kernel = Moving()
        request = moved(kernel)
        await asyncio.sleep(0)
        kernel.ready.set_exception(KernelStartError("no room"))
        with pytest.raises(KernelStartError, match="no room"):
            await request
        assert kernel.done == []

    asyncio.run(use())


def test_a_hanging_agent_holds_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host is connected, so nothing else ends the wait for its answer."""
    monkeypatch.setattr(view_module, "_ANSWER_SECONDS", 0.05)

    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    async def of_this_server(_: str) -> Any:
        return SimpleNamespace(host=SimpleNamespace(request=never))

    view: Any = SimpleNamespace(of_this_server=of_this_server)
    try:
        with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
            asyncio.run(asyncio.wait_for(Actions({}, None, "", view).logs("k1"), 30))
    finally:
        close_io_thread()
