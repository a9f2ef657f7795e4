"""What a host that cannot be used gets: one error, at once, and nothing left running."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from remote_provisioners.errors import (
    AgentError,
    AuthenticationError,
    ConfigurationError,
    ForwardingError,
    HostKeyError,
    KernelStartError,
    RemoteProvisionerError,
    UnknownHostError,
    UnreachableError,
)

from ..conftest import InstallSpec, Start, be_client
from ..rig import Rig


def refused(
    start: Start, name: str, error: type[RemoteProvisionerError], seconds: float = 3
) -> str:
    began = time.monotonic()
    with pytest.raises(error) as raised:
        start(name)
    assert time.monotonic() - began < seconds
    return str(raised.value)


def test_unknown_name(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec("no-such-host.invalid"), UnknownHostError)
    assert text.startswith("host no-such-host.invalid: the name does not resolve")


def test_refused_port(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec("127.0.0.1:1"), UnreachableError)
    assert text == "host 127.0.0.1:1: port 1 refuses connections: is sshd running there?"


def test_silent_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    own_rig.hosts[0].drop()
    text = refused(start, install_spec(own_rig.hosts[0].target), UnreachableError, 7)
    assert "no answer within 5 s" in text


def test_host_key_unknown(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    known = home / ".ssh/known_hosts"
    kept = known.read_text()
    known.unlink()
    try:
        text = refused(start, install_spec(rig.hosts[0].target), HostKeyError)
    finally:
        known.write_text(kept)
    assert text.startswith(f"host {rig.hosts[0].target}: the host key is unknown")
    assert "connect once by `ssh" in text


@pytest.mark.parametrize("option", ["StrictHostKeyChecking no", "UserKnownHostsFile none"])
def test_host_keys_are_checked_whatever_is_configured(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, option: str
) -> None:
    known, config = home / ".ssh/known_hosts", home / ".ssh/config"
    kept, kept_config = known.read_text(), config.read_text()
    known.write_text("")
    config.write_text(f"{option}\n{kept_config}")
    try:
        refused(start, install_spec(rig.hosts[0].target), HostKeyError)
    finally:
        known.write_text(kept)
        config.write_text(kept_config)


def test_host_key_changed(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.new_host_key()
    text = refused(start, install_spec(host.target), HostKeyError)
    assert text.startswith(f"host {host.target}: the host key has CHANGED")
    assert "ssh-keygen -R" in text


def test_no_key_accepted(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.refuse_keys()
    text = refused(start, install_spec(host.target), AuthenticationError)
    assert text.startswith(f"host {host.target}: none of our keys is accepted")


@pytest.mark.parametrize("python", ["no-such-python", "/no/such/python", "a b'c\"$(touch /tmp/x)"])
def test_no_python(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, python: str
) -> None:
    host = rig.hosts[0]
    text = refused(start, install_spec(host.target, python=python), AgentError)
    assert text.startswith(f"host {host.target}: no Python: {python!r} is not there")
    assert "option `python`" in text
    assert not Path("/tmp/x").exists()


def test_not_a_python(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec(rig.hosts[0].target, python="cat"), AgentError)
    assert text.startswith(f"host {rig.hosts[0].target}: 'cat' cannot run the agent")


def test_full_disk(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.small_tmp("4k")
    text = refused(start, install_spec(host.target), AgentError)
    assert text.startswith(f"host {host.target}: cannot start the agent: No space left on device")


def test_disk_full_after_the_agent_has_started(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.small_tmp("1m")
    name = install_spec(host.target)
    session = start(name)
    host.run(["sh", "-c", "dd if=/dev/zero of=/tmp/fill bs=4k 2>/dev/null || true"])
    text = refused(start, name, AgentError)
    assert "No space left on device" in text
    assert session.value("1 + 1") == 2
    host.run(["rm", "/tmp/fill"])
    assert start(name).value("2") == 2


def test_a_squatted_directory(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.run(["sh", "-c", "mkdir -m 777 /tmp/remote-provisioners-0; chown 20001 /tmp/remote-*"])
    text = refused(start, install_spec(host.target), AgentError)
    assert "belongs to uid 20001, not to us (uid 0)" in text
    host.run(["rmdir", "/tmp/remote-provisioners-0"])


@pytest.mark.parametrize(
    "options",
    [
        {"AllowStreamLocalForwarding": "no"},
        {"AllowTcpForwarding": "no"},
        {"DisableForwarding": "yes"},
    ],
)
def test_forwarding_refused(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    options: dict[str, str],
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.sshd_option(**options)
    name = install_spec(host.target)
    text = refused(start, name, ForwardingError)
    assert text.startswith(f"host {host.target}: sshd refuses to forward")
    assert "AllowStreamLocalForwarding yes" in text
    host.run(["pkill", "-f", "agent.pyz"])


def test_a_noisy_login(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """A start-up file that prints does not confuse anybody."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.write(
        f"{host.home}/.bashrc", "echo Welcome; echo '{\"socket\": 1}'; echo err >&2\n", 0o644
    )
    assert start(install_spec(host.target)).value("1") == 1


# -- requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pinned", ["-oProxyCommand=touch /tmp/x", "a;b", "$(touch /tmp/x)", "a\nb", "a,b", "a b", "h:0"]
)
def test_a_pin_that_is_no_host(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, pinned: str
) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the host"):
        start(install_spec(rig.hosts[0].target), env={"KERNEL_REMOTE_HOST": pinned})
    assert not Path("/tmp/x").exists()


def test_a_failed_start_is_followed_by_a_good_one(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    hosts = [host.target for host in rig.hosts]
    bad = install_spec(hosts, argv=["python", "-c", "raise SystemExit(4)"], name="bad")
    with pytest.raises(KernelStartError, match=f"host {hosts[0]}: .*exit code 4"):
        start(bad)
    assert start(install_spec(hosts)).host == hosts[1]


def test_an_interpreter_below_home(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.run(["mkdir", "bin"])
    host.write(f"{host.home}/bin/mine", f'#!/bin/sh\nMINE=1 exec {sys.executable} "$@"\n', 0o755)
    session = start(install_spec(host.target, python="~/bin/mine"))
    assert session.value("__import__('os').environ['MINE']") == "1"
