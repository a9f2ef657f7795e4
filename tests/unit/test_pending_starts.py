"""Two requests for the same kernel while it starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remote_provisioners.errors import StartCancelledError
from remote_provisioners.server.hooks.pending_starts import PendingStarts


class SlowManager:
    """A manager of kernels, as far as a start needs it."""

    default_kernel_name = "remote"

    def __init__(self) -> None:
        self._pending_kernels: dict[str, Any] = {}
        self._kernels: dict[str, Any] = {}
        self.started: list[str] = []
        self.fails = False

    def __contains__(self, kernel_id: str) -> bool:
        return kernel_id in self._kernels

    def pre_start_kernel(self, kernel_name: str, kwargs: Any) -> Any:
        raise NotImplementedError

    def remove_kernel(self, kernel_id: str) -> None:
        self._kernels.pop(kernel_id, None)

    async def start_kernel(self, *, kernel_id: str) -> str:
        self.started.append(kernel_id)
        await asyncio.sleep(0.05)
        if self.fails:
            raise OSError("no host")
        self._kernels[kernel_id] = object()
        return kernel_id


class Ours:
    def is_ours(self, kernel_name: str | None) -> bool:
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_kernel_is_started_once(fails: bool) -> None:
    async def main() -> None:
        manager: Any = SlowManager()
        manager.fails = fails
        starts = PendingStarts(manager, Ours())
        both = (manager.start_kernel(kernel_id="k1") for _ in range(2))
        results = await asyncio.gather(*both, return_exceptions=True)
        assert manager.started == ["k1"]
        assert [str(result) for result in results] == ["no host" if fails else "k1"] * 2
        assert starts.pending == {}

    asyncio.run(main())


def test_a_start_whose_kernel_is_shut_down_has_an_answer() -> None:
    """A CancelledError would leave the request without one."""

    async def main() -> None:
        manager: Any = SlowManager()
        starts = PendingStarts(manager, Ours())
        both = [asyncio.ensure_future(manager.start_kernel(kernel_id="k1")) for _ in range(2)]
        while not manager.started:
            await asyncio.sleep(0)
        assert await starts.give_up(["k1"])
        for request in both:
            with pytest.raises(StartCancelledError, match="kernel k1 was shut down during its"):
                await request

    asyncio.run(main())
