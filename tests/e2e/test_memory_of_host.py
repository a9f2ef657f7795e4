"""Kernels are ended before their agent where a host runs out of memory."""

from __future__ import annotations

import pytest

from ..conftest import InstallSpec, Start
from ..rig import Host, Rig


def adjustment(host: Host, pid: int) -> int:
    return int(host.run(["cat", f"/proc/{pid}/oom_score_adj"]))


@pytest.mark.parametrize("warm", [0, 1])
def test_an_agent_is_spared(
    rig: Rig, home: object, install_spec: InstallSpec, start: Start, warm: int
) -> None:
    host = rig.hosts[0]
    name = install_spec(host.target, warm=warm)
    sessions = [start(name) for _ in range(2)]
    (agent,) = (p.pid for p in host.processes() if any("agent.pyz" in word for word in p.argv))
    kernels = [session.value("__import__('os').getpid()") for session in sessions]
    assert {adjustment(host, pid) - adjustment(host, agent) for pid in kernels} == {100}
