"""The rig itself, of both kinds: that its hosts are what other tests assume them to be."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncssh
import pytest

from tests.rig import CommandError, NamespaceRig, Rig, RigError, command, open_rig
from tests.rig.checks import SLEEP, banner, eventually_gone, sleepers, sleeps, ssh, traces

Kind = Literal["namespace", "loopback"]


def skip_without(kind: Kind) -> None:
    if kind == "namespace" and (reason := NamespaceRig.unavailable()):
        pytest.skip(reason)


@pytest.fixture(scope="module", params=["namespace", "loopback"])
def any_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    skip_without(request.param)
    with open_rig(2, kind=request.param) as rig:
        yield rig


def test_openssh_reaches_each_host(any_rig: Rig) -> None:
    homes = [ssh(any_rig, host, "sh", "-c", "echo $HOME").strip() for host in any_rig.hosts]
    assert homes == [str(host.home) for host in any_rig.hosts]
    assert len(set(homes)) == 2


def test_asyncssh_needs_home_alone(any_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in any_rig.environ.items():
        monkeypatch.setenv(name, value)
    host = any_rig.hosts[0]

    async def connect() -> None:
        before = host.tcp_connections()
        async with asyncssh.connect(host.target) as connection:
            done = await connection.run("echo $HOME", check=True)
            assert done.stdout == f"{host.home}\n"
            assert host.tcp_connections() == before + 1

    asyncio.run(connect())


def test_files_and_commands(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    path = host.home / "deep/er/secret"
    host.write(path, "x\n", 0o600)
    assert host.files(host.home / "deep") == ["er/", "er/secret"]
    assert host.files(host.home / "nowhere") == []
    assert host.run(["stat", "-c", "%a", str(path)]) == "600\n"
    assert host.run(["pwd"]) == f"{host.home}\n"
    assert host.run(["sh", "-c", "echo out; exit 3"], check=False) == "out\n"
    with pytest.raises(CommandError, match="status 3: no") as failed:
        host.run(["sh", "-c", "echo no >&2; exit 3"])
    assert failed.value.status == 3


def test_command_that_takes_too_long_is_killed(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    with pytest.raises(CommandError, match="did not end in time"):
        host.run(SLEEP, timeout=0.2)
    deadline = time.monotonic() + 10
    while sleepers(host) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sleepers(host) == 0


def test_processes_shows_what_was_detached(any_rig: Rig) -> None:
    host, other = any_rig.hosts
    ssh(any_rig, host, "sh", "-c", "setsid sleep 1234 </dev/null >/dev/null 2>&1 &")
    assert sleeps(host)
    (process,) = [p for p in host.processes() if p.argv == tuple(SLEEP)]
    assert (process.user, sleepers(other)) == (host.user, 0)
    if any_rig.own_address:
        assert process.ppid == 1
        host.run(["kill", str(process.pid)])
    else:
        os.kill(process.pid, signal.SIGTERM)


def test_listening(any_rig: Rig) -> None:
    host, other = any_rig.hosts
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); "
    code += "print(s.getsockname()[1], flush=True); input()"
    argv = any_rig.ssh_argv(host, [sys.executable, "-c", code])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        listener = f"127.0.0.1:{int(process.stdout.readline())}"
        assert listener in host.listening()
        assert listener not in other.listening()
        assert any(each.endswith(f":{host.port}") for each in host.listening())
        process.communicate(b"\n")


def test_sshd_stops_and_starts(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    with socket.create_connection((host.address, host.port), timeout=2) as connection:
        assert connection.recv(4) == b"SSH-"
        host.stop_sshd()
        with pytest.raises(ConnectionRefusedError):
            banner(host.address, host.port)
        assert host.tcp_connections() == 1  # as with a service manager
        host.stop_sshd(sessions=True)
        assert host.tcp_connections() == 0
    host.start_sshd()
    assert ssh(any_rig, host, "echo", "back") == "back\n"


def test_sshd_options(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    host.sshd_option(ForceCommand="echo forced", AllowStreamLocalForwarding="no")
    assert ssh(any_rig, host, "true") == "forced\n"
    host.sshd_option(ForceCommand=None, AllowStreamLocalForwarding=None)
    assert ssh(any_rig, host, "echo", "free") == "free\n"


def test_bad_sshd_option_says_so(any_rig: Rig) -> None:
    host = any_rig.hosts[1]
    with pytest.raises(RigError, match="Bad configuration option: Nonsense"):
        host.sshd_option(Nonsense="yes")
    host.sshd_option(Nonsense=None)


def test_host_key_changes(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    host.new_host_key()
    with pytest.raises(CommandError, match="HOST IDENTIFICATION HAS CHANGED"):
        ssh(any_rig, host, "true")
    any_rig.trust(host)
    ssh(any_rig, host, "true")


def test_keys_are_refused(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    host.refuse_keys()
    with pytest.raises(CommandError, match="Permission denied"):
        ssh(any_rig, host, "true")
    host.accept_keys()
    ssh(any_rig, host, "true")


def test_relay_delays_both_ways(any_rig: Rig) -> None:
    host = any_rig.hosts[0]
    with any_rig.relay(host, 1.0) as relay:
        started = time.monotonic()
        with socket.create_connection((relay.address, relay.port), timeout=5) as connection:
            assert connection.recv(4) == b"SSH-"
            assert 1 <= time.monotonic() - started < 1.9
            while select.select([connection], [], [], 1.5)[0]:
                connection.recv(100)
            started = time.monotonic()
            connection.sendall(b"SSH-2.0-test\r\n")  # answered by the list of algorithms
            assert connection.recv(4)
            assert 2 <= time.monotonic() - started < 2.9
    with any_rig.relay(host, 0.01) as relay:
        assert ssh(any_rig, relay, "echo", "through") == "through\n"


def test_relay_carries_bulk_in_order(any_rig: Rig) -> None:
    with any_rig.relay(any_rig.hosts[0], 0.02) as relay:
        numbers = ssh(any_rig, relay, "seq", "300000")
    assert numbers.splitlines() == [str(n) for n in range(1, 300001)]


def test_relay_cuts_and_refuses(any_rig: Rig) -> None:
    with any_rig.relay(any_rig.hosts[0]) as relay:
        with socket.create_connection((relay.address, relay.port), timeout=2) as connection:
            assert connection.recv(4) == b"SSH-"
            relay.refuse()
            with pytest.raises(ConnectionRefusedError):
                banner(relay.address, relay.port)
            assert relay.connections == 1
            relay.cut()
            with pytest.raises(ConnectionResetError):
                connection.makefile("rb").read()
            assert relay.connections == 0
        relay.accept()
        assert banner(relay.address, relay.port).startswith(b"SSH-")


@pytest.mark.parametrize("kind", ["namespace", "loopback"])
def test_nothing_is_left(kind: Kind) -> None:
    skip_without(kind)
    rig = open_rig(2, kind=kind)
    with pytest.raises(KeyError), rig:  # noqa: PT012 - what is raised is not the point
        ssh(rig, rig.hosts[0], "sh", "-c", "setsid sleep 1234 </dev/null >/dev/null 2>&1 &")
        assert sleeps(rig.hosts[0])
        assert traces(rig.name)
        raise KeyError
    assert traces(rig.name) == []


@pytest.mark.parametrize("kind", ["namespace", "loopback"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_killed_process(kind: Kind, number: signal.Signals) -> None:
    skip_without(kind)
    code = f"""if True:
        from tests.rig import open_rig
        with open_rig(2, kind={kind!r}) as rig:
            print(rig.name, flush=True)
            input()
    """
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        name = process.stdout.readline().strip()
        assert traces(name)
        process.send_signal(number)
    assert process.returncode == -number
    assert eventually_gone(name)


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "PATH", str(tmp_path))
    with pytest.raises(RigError, match=r"bash, ssh-keygen, sshd; .* install .* openssh-server"):
        open_rig(1, kind="loopback").__enter__()


def test_loopback_has_no_faults() -> None:
    with open_rig(1, kind="loopback") as rig:
        assert not rig.faults
        with pytest.raises(RigError, match="cannot inject faults"):
            rig.hosts[0].power_off()
