"""Kernels in containers of a real Docker daemon, one container a kernel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import (
    AuthenticationError,
    KernelStartError,
    UnreachableError,
    UnusablePythonError,
)
from remote_provisioners.hosts.registry import host_registry
from remote_provisioners.io_thread import io_thread

from ..conftest import SLEEP, InstallSpec, Session, Start, eventually
from ..engines.errors import doctor, failure
from ..rig.containers import SHARED
from ..rig.docker import Docker
from .applications import Applications

pytestmark = pytest.mark.docker

VOLUMES = [f"{path}:{path}:ro" for path in SHARED]
Install = Callable[..., str]
#: Whether the kernel comes from a template, which has frozen its objects.
FORKED = "__import__('gc').get_freeze_count() > 0"


@pytest.fixture
def install(docker: Docker, install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a kernelspec for containers of the image `box`."""
    monkeypatch.setenv("DOCKER_HOST", docker.socket)

    def installed(env: dict[str, str] | None = None, **options: Any) -> str:
        given = {"image": "box", "pull": "never", "volumes": VOLUMES, "python": sys.executable}
        config = {name: value for name, value in (given | options).items() if value is not None}
        stanza = {"provisioner_name": "docker-provisioner", "config": config}
        spec = {"metadata": {"kernel_provisioner": stanza}}
        return install_spec(name="box", env=env, spec=spec)

    return installed


@pytest.fixture(autouse=True)
def no_container_left(docker: Docker) -> Iterator[None]:
    yield
    left = docker.run("ps", "-a", "--format", "{{.Names}} {{.Status}}")
    for line in left.splitlines():
        docker.run("rm", "-f", line.split()[0])
    assert left == ""


def container(session: Session) -> str:
    return session.host


def test_a_kernel_has_a_container_of_its_own(
    docker: Docker, install: Install, start: Start
) -> None:
    session = start(install())
    name = container(session)
    assert session.value(FORKED)
    described = json.loads(docker.run("inspect", name))[0]
    labels = described["Config"]["Labels"]
    kernel_id = session.provisioner.kernel_id
    assert labels["remote-provisioners.kernel"] == kernel_id
    assert "@" in labels["remote-provisioners.server"]
    assert re.fullmatch(f"kernel-{kernel_id[:8]}-[0-9a-f]+", name)
    assert session.value("__import__('os').listdir('/sys/class/net')") == ["lo"]
    assert session.value("6 * 7") == 42

    session.client.execute(SLEEP)
    eventually(lambda: session.client.get_iopub_msg()["msg_type"] == "stream")
    session.manager.interrupt_kernel()
    assert session.value("'on'") == "on"

    session.run("left = 1")
    session.manager.restart_kernel()
    session.client.wait_for_ready(timeout=30)
    assert session.value("'left' in globals()") is False
    assert session.value(FORKED)
    assert container(session) == name
    assert docker.run("ps", "--format", "{{.Names}}") == name

    session.manager.shutdown_kernel()
    assert docker.run("ps", "-a", "--format", "{{.Names}}") == ""


def test_an_image_without_python(install: Install, start: Start) -> None:
    error = failure(start, install(python="/opt/no/python"))
    assert isinstance(error, KernelStartError)
    assert "the image box has no /opt/no/python" in str(error)


@pytest.mark.long
class TestErrors:
    def test_an_image_that_is_not_there(self, install: Install, start: Start) -> None:
        error = failure(start, install(image="absent:1"))
        assert "there is no image absent:1 (option `pull`: never)" in str(error)

    def test_an_image_that_cannot_be_pulled(self, install: Install, start: Start) -> None:
        error = failure(start, install(image="127.0.0.1:1/absent", pull="missing"))
        assert isinstance(error, KernelStartError)
        assert "cannot pull the image 127.0.0.1:1/absent" in str(error)

    def test_no_daemon(
        self, install: Install, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = install()
        monkeypatch.setenv("DOCKER_HOST", "unix:///tmp/no-docker.sock")
        error = failure(start, name)
        assert isinstance(error, UnreachableError)
        assert "docker does not reach its daemon" in str(error)

    def test_a_socket_of_others(self, install: Install, start: Start) -> None:
        nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
        error = failure(start, install(connect=nobody, volumes=[]))
        assert isinstance(error, AuthenticationError)
        assert "the server's user may not use docker" in str(error)

    def test_no_docker(self, install: Install, start: Start) -> None:
        error = failure(start, install(docker_program="no-docker"))
        assert "cannot run 'no-docker' on this machine" in str(error)

    def test_an_image_without_ipykernel(self, install: Install, start: Start) -> None:
        error = failure(start, install(python=None))
        assert "No module named" in str(error)

    def test_an_old_python(self, install: Install, start: Start, tmp_path: Any) -> None:
        for program in ("sh", "sleep"):
            shutil.copy(shutil.which(program) or "", tmp_path)
        old = tmp_path / "python3"
        # What 3.5 says of a pipe's first word. It can read the main process's text.
        said = "echo 'SyntaxError: invalid syntax' >&2; exit 1"
        old.write_text(f'#!/bin/sh\ncase "$4" in f*) {said};; *) exec sleep 600;; esac\n')
        old.chmod(0o755)
        volumes = [f"{tmp_path}:/usr/bin", "/usr/lib:/usr/lib:ro", "/usr/lib64:/usr/lib64:ro"]
        error = failure(start, install(python=None, volumes=volumes))
        assert isinstance(error, UnusablePythonError)
        assert "3.8" in str(error)

    def test_a_value_that_would_be_an_option(self, install: Install, start: Start) -> None:
        for option in ({"image": "--privileged"}, {"volumes": ["--privileged"]}):
            error = failure(start, install(**option))
            assert "--privileged" in str(error)


@pytest.mark.long
class TestContainers:
    def test_what_the_operator_limits(self, docker: Docker, install: Install, start: Start) -> None:
        limits = {"memory": "1g", "cpus": "0.5", "read_only": True, "container_user": "1000"}
        session = start(install(**limits))
        limited = json.loads(docker.run("inspect", container(session)))[0]["HostConfig"]
        assert (limited["Memory"], limited["NanoCpus"]) == (1 << 30, 500_000_000)
        assert session.value("__import__('os').getuid()") == 1000
        assert "Read-only" in session.run("open('/home/file', 'w')")
        assert session.value("open('/tmp/file', 'w').write('1')") == 1

    def test_a_kernel_that_needs_too_much_memory(self, install: Install, start: Start) -> None:
        session = start(install(memory="300m"))
        session.client.execute("x = bytearray(1 << 30)")
        kernel = session.kernel
        eventually(lambda: kernel.life.over, 20)
        assert "memory" in session.provisioner.reason

    def test_a_container_that_is_killed(
        self, docker: Docker, install: Install, start: Start
    ) -> None:
        """The kernel is lost at once, and a restart gets another container."""
        session = start(install())
        name = container(session)
        docker.run("kill", name)
        eventually(lambda: session.kernel.life.over)
        assert "the container has ended: it was killed" in session.provisioner.reason
        session.manager.restart_kernel(now=True)
        session.client.wait_for_ready(timeout=30)
        assert session.value("1") == 1
        assert container(session) != name

    def test_an_agent_that_is_killed(self, docker: Docker, install: Install, start: Start) -> None:
        session = start(install())
        session.run("x = 7")
        kernel = session.kernel
        agent = session.value("__import__('os').getppid()")
        docker.run("exec", container(session), "sh", "-c", f"kill -9 {agent}")
        eventually(lambda: not kernel.life.serving)
        eventually(lambda: kernel.life.serving, 20)

        def answers() -> bool:
            """A request and an output of the very moment may be lost, so ask again."""
            try:
                reply = session.client.execute(
                    "", user_expressions={"x": "x"}, reply=True, timeout=3
                )
            except TimeoutError:
                return False
            found = reply["content"].get("user_expressions", {})  # absent if the reply is lost
            return bool(found) and bool(found["x"]["data"]["text/plain"] == "7")

        eventually(answers, 30)

    def test_the_next_server(self, docker: Docker, install: Install, start: Start) -> None:
        """It finds the kernel with what the first one has written down."""
        session = start(install())
        session.run("x = 7")
        name = container(session)
        provisioner = session.provisioner
        info = json.loads(json.dumps(asyncio.run(provisioner.get_provisioner_info())))
        asyncio.run(provisioner.let_go())
        other = start("box", provisioner_info=info, kernel_id=provisioner.kernel_id)
        assert other.value("x") == 7
        assert container(other) == name
        other.manager.shutdown_kernel()
        assert docker.run("ps", "-a", "--format", "{{.Names}}") == ""

    def test_a_server_that_is_killed_during_a_start(
        self, docker: Docker, install: Install, tmp_path: Path
    ) -> None:
        """Nobody has the kernel's id: the next server removes the container."""
        slow = tmp_path / "docker"
        real = shutil.which("docker")
        slow.write_text(f'#!/bin/sh\n{real} "$@" || exit $?\n[ "$1" != run ] || sleep 3\n')
        slow.chmod(0o755)
        name = install(docker_program=str(slow))
        with Applications(tmp_path) as applications:
            server = applications.server("server")

            def ask() -> None:
                with contextlib.suppress(Exception):
                    server.start_kernel(name)

            asking = threading.Thread(target=ask)
            asking.start()
            eventually(lambda: docker.run("ps", "--format", "{{.Names}}"), 30)
            server.process.kill()
            server.process.wait()
            asking.join()
            assert docker.run("ps", "--format", "{{.Names}}")
            server = applications.server("server")
            eventually(lambda: docker.run("ps", "-a", "--format", "{{.Names}}") == "", 30)
            assert server.ask("GET", "/api/kernels")[1] == []
        # The next process that has hosts removes the sockets of the killed one.
        io_thread().call_blocking(host_registry(), 10)

    def test_nothing_is_left_for_ever(self, docker: Docker, install: Install, start: Start) -> None:
        """The server never comes back: the lease ends the kernel, and the container follows."""
        session = start(install(client_lease=1.0))
        asyncio.run(session.provisioner.let_go())
        session.client.stop_channels()
        eventually(lambda: docker.run("ps", "-a", "--format", "{{.Names}}") == "", 150)

    def test_no_value_of_the_kernelspec_is_in_the_command(
        self, docker: Docker, install: Install, start: Start
    ) -> None:
        """It may be a secret, so the container's command contains no head start then. The agent
        gets it by the pipe, and loads the first template all the same.
        """
        session = start(install(env={"TOKEN": "s3cret"}))
        assert session.value("__import__('os').environ['TOKEN']") == "s3cret"
        described = json.loads(docker.run("inspect", container(session)))[0]
        assert len(described["Args"]) == 4
        assert "s3cret" not in json.dumps(described)
        assert session.value(FORKED)

    def test_behind_another_program(self, docker: Docker, install: Install, start: Start) -> None:
        """One that hands its words to a shell, as ssh does."""
        shell = ["sh", "-c", 'exec sh -c "$*"', "sh"]
        session = start(install(connect=shell))
        assert session.value("6 * 7") == 42

    def test_the_doctor(self, docker: Docker, install: Install) -> None:
        code, said = doctor(install())
        assert code == 0, said
        for text in ("docker reaches a daemon, version", "box is there", "answers on kernel-"):
            assert text in said
        code, said = doctor(install(image="absent"))
        assert code == 1
        assert "there is no image absent, and the option `pull` is never" in said
