"""Hosts made of namespaces: as separate, and their faults as real, as other tests assume."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import CommandError, NamespaceRig, Rig, RigError, command, open_rig
from .checks import banner, sleepers, sleeps, ssh


@pytest.fixture(scope="module")
def hosts_with_faults() -> Iterator[Rig]:
    if reason := NamespaceRig.unavailable():
        pytest.skip(reason)
    with open_rig(2, kind="namespace") as rig:
        yield rig


@pytest.fixture
def rig(hosts_with_faults: Rig) -> Rig:
    return hosts_with_faults


def test_hosts_have_their_own_names(rig: Rig) -> None:
    names = [ssh(rig, host, "hostname").strip() for host in rig.hosts]
    assert names == [host.name for host in rig.hosts]
    assert socket.gethostname() not in names


def test_hosts_have_their_own_tmp(rig: Rig) -> None:
    a, b = rig.hosts
    for directory in ("/tmp", "/run", "/dev/shm"):
        a.write(f"{directory}/mine", "")
        assert "mine" in a.files(directory)
        assert "mine" not in b.files(directory)
        assert not Path(directory, "mine").exists()


def test_hosts_see_their_own_processes(rig: Rig) -> None:
    a, b = rig.hosts
    ssh(rig, a, "sh", "-c", "sleep 1234 >/dev/null 2>&1 &")
    assert sleeps(a)
    assert sleepers(b) == 0
    assert "sleep 1234" in a.run(["ps", "-e", "-o", "args="])
    assert "pytest" not in a.run(["ps", "-e", "-o", "args="])
    a.run(["pkill", "sleep"])


def test_hosts_reach_each_other_by_name(rig: Rig) -> None:
    a, b = rig.hosts
    script = f"exec 3<>/dev/tcp/{b.name}/22; read -r line <&3; echo $line"
    assert a.run(["bash", "-c", script]).startswith("SSH-2.0-")


def test_ipv6(rig: Rig) -> None:
    assert banner(rig.hosts[0].address6).startswith(b"SSH-")


def test_alice_may_log_in_and_run_this_python(rig: Rig) -> None:
    host = rig.hosts[0]
    argv = [*rig.ssh, "-l", "alice", host.target, sys.executable]
    argv += ["-c", "'import getpass, os; print(getpass.getuser(), os.getuid(), os.getcwd())'"]
    assert command.run(argv) == f"alice 20001 {host.homes['alice']}\n"
    assert host.run(["id", "-un"], user="alice") == "alice\n"
    host.write("note", "x", user="alice")
    assert host.run(["stat", "-c", "%U", str(host.homes["alice"] / "note")]) == "alice\n"


def test_power(rig: Rig) -> None:
    host = rig.hosts[0]
    host.write("/tmp/gone", "")
    host.write(host.home / "kept", "")
    boot = host.run(["cat", "/proc/sys/kernel/random/boot_id"])
    with socket.create_connection((host.address, 22), timeout=1) as connection:
        assert connection.recv(100)
        host.power_off()
        with pytest.raises(TimeoutError):
            connection.recv(100)  # nobody says good-bye
    assert host.processes() == []
    with pytest.raises(RigError, match="has no power"):
        host.run(["true"])
    with pytest.raises(OSError, match=r"timed out|No route"):
        banner(host.address)
    host.power_on()
    assert ssh(rig, host, "cat", "/proc/sys/kernel/random/boot_id") != boot
    assert "gone" not in host.files("/tmp")
    assert "kept" in host.files(host.home)


def test_drop_is_silent_and_heals(rig: Rig) -> None:
    host, other = rig.hosts
    with socket.create_connection((host.address, 22), timeout=0.5) as connection:
        assert connection.recv(100)
        host.drop()
        connection.sendall(b"SSH-2.0-test\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        with pytest.raises(TimeoutError):
            banner(host.address)
        with pytest.raises(TimeoutError):
            banner(host.address6)
        assert banner(other.address)
        host.heal()
        connection.settimeout(5)
        assert connection.recv(100)  # TCP tried again all the while
    assert banner(host.address)


def test_link(rig: Rig) -> None:
    host = rig.hosts[0]
    host.link_down()
    assert host.run(["cat", "/sys/class/net/eth0/carrier"], check=False) != "1\n"
    with pytest.raises(OSError, match=r"timed out|No route"):
        banner(host.address)
    host.link_up()
    assert banner(host.address, timeout=5)


def test_lossy_loses_its_share(rig: Rig) -> None:
    host = rig.hosts[0]

    def unclaimed() -> int:
        lines = host.run(["grep", "^Udp:", "/proc/net/snmp"]).splitlines()
        return int(dict(zip(*map(str.split, lines), strict=True))["NoPorts"])

    before = unclaimed()
    host.lossy(30)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(400):
            sender.sendto(b"", (host.address, 9))
    host.heal()
    assert 230 < unclaimed() - before < 330


def test_full_disk(rig: Rig) -> None:
    host = rig.hosts[0]
    host.small_tmp("1m")
    with pytest.raises(CommandError, match="No space left"):
        host.write("/tmp/large", b"x" * 2_000_000)
    host.run(["rm", "/tmp/large"])
    host.small_tmp("50%")
    host.write("/tmp/large", b"x" * 2_000_000)


def test_rigs_side_by_side(rig: Rig) -> None:
    with open_rig(1, kind="namespace") as second:
        assert ssh(second, second.hosts[0], "hostname") != ssh(rig, rig.hosts[0], "hostname")
