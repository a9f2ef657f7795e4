"""A container of a real Docker daemon as a host: `docker exec` is the way in."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.errors import AgentError, UnreachableError
from remote_provisioners.hosts.transport import connect
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.way_in import COMMAND, WayIn

from ..conftest import InstallSpec, Start, eventually

pytestmark = pytest.mark.docker

#: This machine's own programs are mounted into it: to fetch a distribution takes minutes.
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
STAYS = ["/bin/sh", "-c", "while :; do sleep 1; done"]
SHARED = ["/usr", str(Path(__file__).resolve().parents[2]), sys.prefix, sys.base_prefix]


class Docker:
    """A daemon of our own, and the client for it."""

    def __init__(self, directory: Path) -> None:
        self.socket = f"unix://{directory}/docker.sock"
        self.program = shutil.which("docker") or ""
        words = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
        words += [f"--data-root={directory}/data", f"--exec-root={directory}/exec"]
        words += [f"--pidfile={directory}/pid", f"--host={self.socket}"]
        with open(directory / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", *words], stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [self.program, "-H", self.socket, *words],
            input=stdin,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return done.stdout.decode().strip()

    @property
    def answers(self) -> bool:
        if self.daemon.poll() is not None:
            raise RuntimeError("dockerd does not run here")
        asked = subprocess.run(
            [self.program, "-H", self.socket, "info"], capture_output=True, check=False
        )
        return asked.returncode == 0

    def exec(self, name: str) -> list[str]:
        """The way into a container."""
        return [self.program, "-H", self.socket, "exec", "-i", name]

    def close(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(30)


def image() -> bytes:
    """The links of a distribution, to what is mounted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, target in LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name in ("tmp", "root", "etc", "home"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(directory)
        for name, text in (
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home:/bin/sh\n"),
            ("etc/group", "root:x:0:\nbob:x:1000:\n"),
        ):
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(text), 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("needs root, and Docker's daemon (docker.io)")
    directory = Path(tempfile.mkdtemp(prefix="docker-", dir="/var/tmp"))
    daemon = Docker(directory)
    try:
        try:
            eventually(lambda: daemon.answers, 30)
        except (RuntimeError, AssertionError):
            pytest.skip("dockerd does not run here: " + (directory / "log").read_text()[-300:])
        daemon.run("import", "-", "box", stdin=image())
        yield daemon
    finally:
        daemon.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def box(docker: Docker) -> Iterator[str]:
    """A container that runs until it is stopped."""
    mounts = [word for path in dict.fromkeys(SHARED) for word in ("-v", f"{path}:{path}:ro")]
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
    eventually(lambda: session.provisioner._kernel.life.state.name == "UNREACHABLE")
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="is not running"):
        start(name)
    assert time.monotonic() - began < 3
    docker.run("start", box)
    eventually(lambda: session.provisioner._kernel.life.poll() is not None, 15)


def test_a_container_without_python(docker: Docker) -> None:
    name = docker.run("run", "-d", "--network", "none", "-v", "/usr:/usr:ro", "box", *STAYS)[:12]

    async def reach() -> None:
        way = WayIn(COMMAND, tuple(docker.exec(name)))
        await connect(HostAddress("box", way=way), "/opt/no/python")

    began = time.monotonic()
    try:
        with pytest.raises(AgentError, match="no Python: '/opt/no/python' is not there"):
            io_thread().call_blocking(reach(), 20)
        assert time.monotonic() - began < 3
    finally:
        docker.run("rm", "-f", name)
