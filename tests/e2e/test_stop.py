"""What a stop waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from remote_provisioners.hosts.agent_channel import AgentChannel

from ..conftest import InstallSpec
from ..rig import Rig


@pytest.mark.parametrize("now", [False, True])
def test_a_stop_does_not_wait_for_files_to_be_removed(
    rig: Rig, home: Any, install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch, now: bool
) -> None:
    request = AgentChannel.request
    removals: list[str] = []

    async def far_away(self: AgentChannel, asked: Any) -> Any:
        if asked.op == "forget":
            removals.append("asked")
            try:
                await asyncio.sleep(60)
            finally:
                removals.append("over")
        return await request(self, asked)

    async def use() -> None:
        manager = AsyncKernelManager(kernel_name="remote", kernel_spec_manager=KernelSpecManager())
        await manager.start_kernel()
        await manager.shutdown_kernel(now=now)

    monkeypatch.setattr(AgentChannel, "request", far_away)
    install_spec([rig.hosts[0].target])
    asyncio.run(use())
    assert removals == ["asked"]
    # Nothing is left all the same: the server takes leave of the host.
