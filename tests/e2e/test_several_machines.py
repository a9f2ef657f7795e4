"""A host's name that leads to several machines, as the one name of all login nodes does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import InstallSpec, Start, be_client, eventually
from ..rig import Host, Relay, Rig
from .applications import Applications, kernels_on


@pytest.fixture
def name(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """It leads to the first host, until somebody calls `lead`."""
    be_client(own_rig, monkeypatch)
    with own_rig.relay(own_rig.hosts[0]) as relay:
        yield relay


def lead(rig: Rig, name: Relay, host: Host) -> None:
    """Let the next connections go to this host."""
    rig.client.trust([name.address, name.target], name.port, host.host_key)
    name.upstream = (host.address, host.port)
    name.cut()


def test_a_kernel_waits_for_its_machine(
    own_rig: Rig, name: Relay, install_spec: InstallSpec, start: Start
) -> None:
    one, two = own_rig.hosts[:2]
    session = start(install_spec(name.target))
    session.run("kept = 1")
    lead(own_rig, name, two)
    host = session.kernel.host
    eventually(lambda: host.circuit and "leads to" in host.circuit.error.message)
    assert f"leads to {two.name} now, but its kernels are on {one.name}" in str(host.circuit.error)
    assert session.manager.is_alive()
    lead(own_rig, name, one)
    assert session.value("kept") == 1


@pytest.mark.long
def test_the_next_server_waits_for_it(
    own_rig: Rig, name: Relay, install_spec: InstallSpec, tmp_path: Path
) -> None:
    one, two = own_rig.hosts[:2]
    install_spec(name.target)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        kernel = server.start_kernel()
        server.run(kernel, "kept = 1")
        server.process.kill()
        server.process.wait()
        lead(own_rig, name, two)
        server = applications.server("server")
        server.expect(f"leads to {two.name} now")
        assert kernels_on(one)
        lead(own_rig, name, one)
        assert server.run(kernel, "print(kept)") == "1\n"
        assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
