"""Two hosts with one /tmp, as containers that share it: each has its own agent and its own
kernels.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from remote_provisioners.io_thread import close_io_thread

from ..conftest import InstallSpec, Session, Start, be_client, eventually
from ..rig import Host, Rig


@pytest.fixture
def hosts(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec
) -> tuple[Host, Host]:
    """Two hosts of the rig."""
    be_client(own_rig, monkeypatch)
    first, second = own_rig.hosts[:2]
    for host in (first, second):
        host.share_tmp()
    first.write("/tmp/here", "yes")
    assert second.run(["cat", "/tmp/here"]) == "yes"
    install_spec([first.target, second.target])
    return first, second


def agents(host: Host) -> list[int]:
    return [p.pid for p in host.processes() if any(w.endswith("agent.pyz") for w in p.argv)]


def kernels(host: Host) -> list[int]:
    return [p.pid for p in host.processes() if "ipykernel_launcher" in p.argv]


def kill_agent(host: Host) -> int:
    """`kill -9`. Returns its pid."""
    (pid,) = agents(host)
    host.run(["kill", "-KILL", str(pid)])
    eventually(lambda: pid not in agents(host))
    return pid


def listed(*hosts: Host) -> list[tuple[str, str]]:
    """What `jupyter remote kernels` shows: each kernel with its host."""
    command = [sys.executable, "-m", "remote_provisioners.cli.app", "kernels", "--json"]
    done = subprocess.run(
        [*command, *(host.target for host in hosts)], capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["kernels"]
    return sorted((kernel["host"], kernel["id"]) for kernel in found)


def on(host: Host, start: Start) -> Session:
    session = start("remote", env={"KERNEL_REMOTE_HOST": host.target})
    session.run("kept = 'kept'")
    return session


def still_has(session: Session) -> bool:
    """Output is lost until the next agent listens to the kernel."""
    try:
        return "kept" in session.run("print(kept)", timeout=3)
    except TimeoutError:
        return False


def id_of(session: Session) -> str:
    return str(session.provisioner.kernel_id)


def test_each_host_has_its_own_agent_and_kernels(hosts: tuple[Host, Host], start: Start) -> None:
    first, second = hosts
    sessions = {host: on(host, start) for host in hosts}
    for host, session in sessions.items():
        assert session.host == host.target
        assert session.value("__import__('socket').gethostname()") == host.name
        assert kernels(host) == [session.kernel.pid]
        assert len(agents(host)) == 1
    expected = sorted((host.target, id_of(session)) for host, session in sessions.items())
    assert listed(first, second) == expected
    assert listed(first) == [(first.target, id_of(sessions[first]))]


def test_a_killed_agent_is_replaced_on_its_own_host(hosts: tuple[Host, Host], start: Start) -> None:
    first, second = hosts
    sessions = {host: on(host, start) for host in hosts}
    running = {host: kernels(host) for host in hosts}
    (other,) = agents(second)
    killed = kill_agent(first)
    # The server of its kernel asks for the next one; the other host's goes on as it was.
    eventually(lambda: agents(first) not in ([], [killed]), 20)
    assert agents(second) == [other]
    for host, session in sessions.items():
        eventually(lambda session=session: still_has(session), 30)
        assert kernels(host) == running[host]
    assert listed(first, second) == sorted((h.target, id_of(s)) for h, s in sessions.items())
    sessions[first].manager.restart_kernel(now=True)
    sessions[first].client.kernel_info(reply=True, timeout=30)
    assert sessions[first].host == first.target
    assert kernels(second) == running[second]


def test_agents_end_when_nothing_is_left(hosts: tuple[Host, Host], start: Start) -> None:
    first, second = hosts
    sessions = {host: on(host, start) for host in hosts}
    kill_agent(second)
    eventually(lambda: still_has(sessions[second]), 30)
    for session in sessions.values():
        session.manager.shutdown_kernel(now=True)
    for host in hosts:
        eventually(lambda host=host: not kernels(host))
    close_io_thread()
    for host in hosts:
        eventually(lambda host=host: not host.processes())
    assert not [path for path in first.files("/tmp") if "remote-prov" in path]
