"""A kernel that was shut down while its host could not be reached is ended when it can be."""

from __future__ import annotations

from typing import Any

import pytest

from remote_provisioners.hosts.agent_channel import AgentChannel
from remote_provisioners.protocol.agent_requests import Forget

from ..conftest import InstallSpec, Start, be_client, eventually
from ..rig import Host, Rig


class CutAtForget:
    """Agents' channels that are lost as they are to carry a Forget, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.times = times
        self.cut: list[str] = []
        self._request = AgentChannel.request
        cutter = self

        async def request(channel: AgentChannel, request: Any) -> Any:
            return await cutter(channel, request)

        monkeypatch.setattr(AgentChannel, "request", request)

    async def __call__(self, channel: AgentChannel, request: Any) -> Any:
        if isinstance(request, Forget) and len(self.cut) < self.times:
            self.cut.append(request.kernel_id)
            channel.close()
        return await self._request(channel, request)


def kernels(host: Host) -> list[int]:
    return [p.pid for p in host.processes() if "ipykernel_launcher" in p.argv]


def test_disconnected_again_while_pending_kills_are_confirmed(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target))
    # Its agent lives, and so does the lease of its kernel: nobody ends it but who shut it down.
    host.stop_sshd(sessions=True)
    there = session.kernel.host
    kernel_id = session.provisioner.kernel_id
    eventually(lambda: not there.connected)
    session.manager.shutdown_kernel(now=True)
    assert kernels(host)
    fault = CutAtForget(monkeypatch, times=2)
    host.start_sshd()
    eventually(lambda: not kernels(host), 20)
    assert fault.cut == [kernel_id] * 2
    eventually(lambda: not there.awaited)
