"""The sockets of kernels on this machine: their directory is removed, or its path is long."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from ..conftest import InstallSpec, Session, Start, eventually
from ..rig import Rig


@pytest.fixture
def runtime(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """XDG_RUNTIME_DIR, as systemd makes it at a login and removes it at the logout."""
    directory = clean_environment / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


def new_client_answers(session: Session) -> None:
    client = BlockingKernelClient()
    client.load_connection_info(session.manager.get_connection_info())
    client.start_channels()
    client.kernel_info(reply=True, timeout=20)
    client.stop_channels()


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_directory_is_removed_under_a_running_server(
    rig: Rig,
    home: Path,
    install_spec: InstallSpec,
    start: Start,
    runtime: Path,
    comes_back: bool,
) -> None:
    """At the same place if that is there again, else in another one."""
    name = install_spec(rig.hosts[0].target)
    session = start(name)
    session.run("x = 1")
    assert str(runtime) in session.manager.ip
    shutil.rmtree(runtime)
    if comes_back:
        runtime.mkdir(mode=0o700)
    assert session.value("x") == 1  # who is connected stays so
    eventually(lambda: os.path.lexists(session.kernel.client_sockets.ip + "-1"))
    assert session.manager.is_alive()
    assert (str(runtime) in session.manager.ip) is comes_back
    new_client_answers(session)

    other = start(name)
    assert other.value("1") == 1

    shutil.rmtree(runtime, ignore_errors=True)
    session.client.stop_channels()
    session.manager.restart_kernel()
    session = Session(session.manager)
    assert session.value("'x' in dir()") is False
    session.client.stop_channels()


@pytest.mark.parametrize("length", [60, 80, 200])
def test_a_long_tmpdir(
    rig: Rig,
    home: Path,
    install_spec: InstallSpec,
    start: Start,
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
) -> None:
    directory = clean_environment
    while len(str(directory)) < length:
        directory /= "d" * min(100, max(1, length - len(str(directory)) - 1))
    directory.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    session = start(install_spec(rig.hosts[0].target))
    assert session.value("1") == 1
    mode = os.stat(os.path.dirname(session.manager.ip)).st_mode & 0o777
    assert mode == 0o700
