"""Kernels are ended before their agent where a host runs out of memory."""

from __future__ import annotations

import signal
import sys

import pytest

from ..conftest import InstallSpec, Start, eventually
from ..rig import Host, Rig
from ..rig.command import CommandError


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


def limited(host: Host, pids: list[int], megabytes: int) -> str:
    """Move processes into a control group with a memory limit; its path."""
    script = (
        "d=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)/limited-$$\n"
        f"mkdir $d && echo {megabytes}M >$d/memory.limit_in_bytes\n"
        'for pid in "$@"; do echo $pid >$d/cgroup.procs; done\necho $d'
    )
    try:
        return host.run(["sh", "-euc", script, "sh", *map(str, pids)]).strip()
    except CommandError as error:
        pytest.skip(f"control groups of version 1 cannot be made here: {error}")


def test_a_kernel_that_its_server_kills(
    rig: Rig, home: object, install_spec: InstallSpec, start: Start
) -> None:
    """Memory is not to blame, even if the system has just killed something else for it."""
    host = rig.hosts[0]
    session = start(install_spec(host.target))
    session.manager.reason = ""  # as jupyter_server has it
    group = limited(host, [], 20)
    eat = f"echo $$ >{group}/cgroup.procs; exec {sys.executable} -c 'bytearray(200 * 2**20)'"
    host.run(["sh", "-c", eat], check=False)
    host.run(["rmdir", group])
    session.manager.signal_kernel(signal.SIGKILL)
    assert eventually(lambda: not session.manager.is_alive())
    assert session.manager.reason == "exit code -9 (SIGKILL)"


def test_a_kernel_that_its_memory_limit_ends(
    rig: Rig,
    home: object,
    install_spec: InstallSpec,
    start: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = rig.hosts[0]
    session = start(install_spec(host.target))
    session.manager.reason = ""  # as jupyter_server has it
    pid = session.value("__import__('os').getpid()")
    (agent,) = (p.pid for p in host.processes() if any("agent.pyz" in word for word in p.argv))
    group = limited(host, [agent, pid], 200)
    try:
        session.client.execute("x = bytearray(1000 * 2**20)")
        assert eventually(lambda: not session.manager.is_alive())
        said = "it used more memory than its limit allows (200 MiB, of its control group)"
        assert session.manager.reason.startswith(f"exit code -9 (SIGKILL): {said}")
        assert any(said in r.message and r.levelname == "WARNING" for r in caplog.records)
    finally:
        host.run(["pkill", "-9", "-f", "agent.pyz"])
        host.run(["sh", "-c", f"sleep 0.3; rmdir {group}"], check=False)
