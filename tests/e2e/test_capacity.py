"""A host never has more kernels than its capacity, whoever starts them and whenever."""

from __future__ import annotations

from collections import Counter

import pytest

from remote_provisioners.errors import NoRoomError, UnreachableError
from remote_provisioners.placement import scheduler

from ..conftest import InstallSpec, Start, be_client
from ..rig import Rig
from .applications import Application, Applications

CLIENT = """
import sys
from jupyter_client.manager import KernelManager
from remote_provisioners.errors import NoRoomError, UnreachableError
from remote_provisioners.provisioner import DistributedProvisioner
manager = KernelManager(kernel_name="remote")
print("ready", flush=True)
sys.stdin.readline()
try:
    manager.start_kernel()
    print("started on " + manager.provisioner.place, flush=True)
    sys.stdin.readline()
    manager.shutdown_kernel(now=True)
except NoRoomError as error:
    print(error, flush=True)
"""


def client(applications: Applications) -> Application:
    """One that starts a kernel when it reads a line, and ends it when it reads another."""
    ready = applications.script(CLIENT)
    ready.expect("ready")
    return ready


@pytest.mark.parametrize(
    "policy",
    [
        "least-load",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("round-robin", "fill")),
    ],
)
def test_a_host_that_has_not_reported_its_kernels_in_time(
    rig: Rig,
    home: object,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    applications: Applications,
    policy: str,
) -> None:
    """It connects slower than a start waits for its report: its agent counts all the same."""
    full = {"host": rig.hosts[0].target, "capacity": 1}
    name = install_spec([full], load_balancing_algorithm=policy)
    other = client(applications)
    other.write("\n")
    other.expect("started on")
    monkeypatch.setattr(scheduler, "_CONNECT_SECONDS", 0.0)
    with pytest.raises(NoRoomError) as error:
        start(name)
    assert str(error.value) == f"every host is full: {rig.hosts[0].target} has 1 of 1 kernels"
    name = install_spec([full, rig.hosts[1].target], load_balancing_algorithm=policy)
    assert start(name).host == rig.hosts[1].target
    other.write("\n")
    assert other.wait() == 0


def test_who_has_a_place_keeps_it_and_a_pinned_kernel_needs_none(
    rig: Rig, home: object, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec([{"host": rig.hosts[0].target, "capacity": 1}]))
    session.manager.restart_kernel(now=True)
    session.client.kernel_info(reply=True, timeout=30)
    assert start("remote", env={"KERNEL_REMOTE_HOST": rig.hosts[0].target}).value("2") == 2
    session.manager.restart_kernel(now=True)
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value("1") == 1


@pytest.mark.parametrize("servers", [4, pytest.param(8, marks=pytest.mark.long)])
def test_servers_that_start_kernels_at_the_same_moment(
    rig: Rig, install_spec: InstallSpec, applications: Applications, servers: int
) -> None:
    """Each sees empty hosts; together they fill both, and no more."""
    room = (servers - 2) // 2
    hosts = [{"host": host.target, "capacity": room} for host in rig.hosts]
    install_spec(hosts, load_balancing_algorithm="least-load")
    clients = [client(applications) for _ in range(servers)]
    for each in clients:
        each.write("\n")
    said = [each.expect("started on (.*)|every host is full: (.*)") for each in clients]
    assert Counter(found.group(1) for found in said) == {
        **{host.target: room for host in rig.hosts},
        None: 2,
    }
    for each in clients:
        if each.process.poll() is None:
            each.write("\n")
        assert each.wait() == 0


def test_a_host_that_fails_is_not_said_to_be_full(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """The kernel that cannot be started there does not count."""
    be_client(own_rig, monkeypatch)
    own_rig.hosts[0].stop_sshd()
    with pytest.raises(UnreachableError, match="port 22 refuses"):
        start(install_spec([{"host": own_rig.hosts[0].target, "capacity": 1}]))
