"""A container of a real Docker daemon as a host: `docker exec` is the way in."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from remote_provisioners.errors import AgentError, UnreachableError
from remote_provisioners.hosts.transport import connect
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.way_in import COMMAND, WayIn

from ..conftest import InstallSpec, Start, eventually
from ..rig.containers import SHARED
from ..rig.docker import STAYS, Docker

pytestmark = pytest.mark.docker


@pytest.fixture
def box(docker: Docker) -> Iterator[str]:
    """A container that runs until it is stopped."""
    mounts = [word for path in SHARED for word in ("-v", f"{path}:{path}:ro")]
    name = docker.run("run", "-d", "--network", "none", *mounts, "box", *STAYS)[:12]
    yield name
    docker.run("rm", "-f", name)


def test_a_kernel_in_a_container(
    docker: Docker, box: str, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec("box", connect=docker.exec(box)))
    assert session.value("__import__('os').uname().nodename") == box
    assert session.value("[__import__('os').getcwd(), __import__('getpass').getuser()]") == [
        "/root",
        "root",
    ]
    assert len(session.run("print('x' * 20_000_000)")) == 20_000_001


def test_a_container_that_stops(
    docker: Docker, box: str, install_spec: InstallSpec, start: Start
) -> None:
    """Its kernels are gone with it; the error of a start names the way and what Docker says."""
    name = install_spec("box", connect=docker.exec(box))
    session = start(name)
    docker.run("kill", box)
    eventually(lambda: session.kernel.life.state.name == "UNREACHABLE")
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="is not running"):
        start(name)
    assert time.monotonic() - began < 3
    docker.run("start", box)
    eventually(lambda: session.kernel.life.poll() is not None, 15)


def test_a_container_without_python(docker: Docker) -> None:
    name = docker.run("run", "-d", "--network", "none", "-v", "/usr:/usr:ro", "box", *STAYS)[:12]

    async def reach() -> None:
        way = WayIn(COMMAND, tuple(docker.exec(name)))
        await connect(HostAddress("box", way=way), "/opt/no/python")

    began = time.monotonic()
    try:
        with pytest.raises(
            AgentError, match=r"(?s)no Python by .*:\s'/opt/no/python' is not there"
        ):
            io_thread().call_blocking(reach(), 20)
        assert time.monotonic() - began < 3
    finally:
        docker.run("rm", "-f", name)
