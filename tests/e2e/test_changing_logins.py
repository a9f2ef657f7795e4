"""Logins to a host that differ: each may lead to another machine, or have another TMPDIR.

Login nodes often share one name. A start-up file may make a new directory at each login.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.io_thread import close_io_thread

from ..conftest import InstallSpec, Start, be_client, eventually
from ..rig import Host, Relay, Rig
from .applications import Applications, Server, agents_on, kernels_on

pytestmark = pytest.mark.long

OWN_TMPDIR = "export TMPDIR=$(mktemp -d /tmp/l-XXXXXX)\n"


@pytest.fixture
def name(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A name that leads to the first host, until somebody calls `lead`."""
    be_client(own_rig, monkeypatch)
    with own_rig.relay(own_rig.hosts[0]) as relay:
        yield relay
        close_io_thread()  # says good-bye by the relay


def lead(rig: Rig, name: Relay, host: Host) -> None:
    """Let the next connections go to this host."""
    rig.client.trust([name.address, name.target], name.port, host.host_key)
    name.upstream = (host.address, host.port)
    name.cut()


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def test_a_kernel_waits_for_its_machine(
    own_rig: Rig, name: Relay, install_spec: InstallSpec, start: Start
) -> None:
    one, two = own_rig.hosts[:2]
    session = start(install_spec(name.target))
    session.run("kept = 1")
    lead(own_rig, name, two)
    host = session.kernel.host
    eventually(lambda: host.circuit and "leads to" in host.circuit.error.message)
    said = f"leads to {two.name} now, but its kernels are on {one.name}"
    assert said in host.circuit.error.message
    assert session.manager.is_alive()
    lead(own_rig, name, one)
    assert session.value("kept") == 1


def test_a_kernel_of_a_login_with_another_tmpdir(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """Also if its agent is killed in the meantime."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.write(host.home / ".bashrc", OWN_TMPDIR)
    session = start(install_spec(host.target))
    session.run("kept = 1")
    for killed in (False, True):
        host.stop_sshd(sessions=True)
        if killed:
            host.run(["pkill", "-9", "-f", "agent.pyz"])
        host.start_sshd()
        assert session.value("kept") == 1
        assert len(agents_on(host)) == 1


@pytest.mark.parametrize("differs", ["machine", "TMPDIR"])
def test_the_next_server(
    own_rig: Rig, name: Relay, install_spec: InstallSpec, tmp_path: Path, differs: str
) -> None:
    one, two = own_rig.hosts[:2]
    if differs == "TMPDIR":
        one.write(one.home / ".bashrc", OWN_TMPDIR)
    install_spec(name.target)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        kernel = server.start_kernel()
        server.run(kernel, "kept = 1")
        kill(server)
        if differs == "machine":
            lead(own_rig, name, two)
        else:
            listed = applications.jupyter("remote", "kernels", "--json")
            assert listed.wait() == 0
            (found,) = json.loads(listed.output)["kernels"]
            assert (found["id"], found["state"], len(agents_on(one))) == (kernel, "left", 1)
        server = applications.server("server")
        if differs == "machine":
            server.expect(f"leads to {two.name} now")
            assert kernels_on(one)
            lead(own_rig, name, one)
        assert server.run(kernel, "print(kept)") == "1\n"
        assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
