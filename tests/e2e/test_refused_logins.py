"""A login that is refused is not tried again and again: servers shut out who does that."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote_provisioners.errors import AuthenticationError
from remote_provisioners.hosts import keys

from ..conftest import InstallSpec, Session, Start, be_client, eventually
from ..rig import Host, Rig


@pytest.fixture
def host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Host:
    be_client(own_rig, monkeypatch)
    return own_rig.hosts[0]


def attempts(host: Host) -> int:
    """Connections on which nobody logged in."""
    return host.log().count("[preauth]")


@pytest.fixture
def locked_out(host: Host, install_spec: InstallSpec, start: Start) -> Session:
    """A kernel whose host lets nobody in any more, and has just lost us."""
    session = start(install_spec(host.target))
    session.run("x = 1")
    host.refuse_keys()
    host.stop_sshd(sessions=True)
    host.start_sshd()
    eventually(lambda: attempts(host))
    return session


def is_back(session: Session) -> bool:
    return bool(session.kernel.life.serving)


def test_the_login_is_refused_while_kernels_are_there(host: Host, locked_out: Session) -> None:
    time.sleep(3)  # an attempt a second, if it were not known that it is in vain
    assert attempts(host) == 1
    host.accept_keys()
    os.utime(Path(os.environ["HOME"], ".ssh", "config"))
    eventually(lambda: is_back(locked_out), 10)  # the user's keys have changed
    assert locked_out.value("x") == 1


@pytest.mark.parametrize("connect", ["asyncssh", pytest.param("openssh", marks=pytest.mark.long)])
def test_a_key_that_is_elsewhere_counts(
    host: Host,
    own_rig: Rig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    connect: str,
) -> None:
    """IdentityFile names a file that is not in ~/.ssh."""
    former, key = own_rig.home / ".ssh" / "id_ed25519", tmp_path / "key"
    key.write_bytes(former.read_bytes())
    key.chmod(0o600)
    config = own_rig.home / ".ssh" / "config"
    config.write_text(config.read_text().replace(str(former), str(key)))
    session = start(install_spec(host.target, connect=connect))
    assert session.value("1") == 1
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "x"], check=True
    )
    (tmp_path / "x").replace(key)
    host.stop_sshd(sessions=True)
    host.start_sshd()
    eventually(lambda: attempts(host))
    key.write_bytes(former.read_bytes())
    eventually(lambda: is_back(session), 15)
    assert session.value("2") == 2


def test_somebody_asks(
    host: Host, locked_out: Session, install_spec: InstallSpec, start: Start
) -> None:
    """At once, each time; what is known is not the answer."""
    with pytest.raises(AuthenticationError):
        start(install_spec(host.target))
    eventually(lambda: attempts(host) == 2)
    host.accept_keys()
    assert start(install_spec(host.target)).value("1") == 1
    assert is_back(locked_out)
    assert locked_out.value("x") == 1


def test_a_restart_asks(host: Host, locked_out: Session) -> None:
    host.accept_keys()
    locked_out.manager.restart_kernel()
    locked_out.client.kernel_info(reply=True, timeout=30)
    assert locked_out.value("'x' in dir()") is False


def test_keys_in_an_agent_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    key = tmp_path / "key"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

        async def body() -> float:
            before = asyncio.get_running_loop().time()
            waiting = asyncio.ensure_future(keys.until_changed(30))
            await asyncio.sleep(0.5)
            subprocess.run(["ssh-add", "-q", key], check=True)
            await waiting
            return asyncio.get_running_loop().time() - before

        assert asyncio.run(body()) < 10
    finally:
        agent.kill()
        agent.wait()


@pytest.mark.parametrize("lets_in", [True, False])
def test_the_doctor_logs_in_once_and_does_not_hang_up(host: Host, lets_in: bool) -> None:
    if not lets_in:
        host.refuse_keys()
    command = [sys.executable, "-m", "jupyter", "remote", "doctor", host.target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ("FAIL  login" in done.stdout) is not lets_in
    eventually(lambda: attempts(host) == (not lets_in))
