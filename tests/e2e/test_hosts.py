"""How hosts are written, how they are connected to, and which one is taken."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from remote_provisioners.errors import HostKeyError, UnreachableError

from ..conftest import InstallSpec, Session, Start, be_client, eventually
from ..contract.test_provisioner import interrupt
from ..rig import Host, Process, Rig

HOSTNAME = "__import__('socket').gethostname()"


def on_hosts(sessions: list[Session]) -> list[str]:
    return [session.value(HOSTNAME) for session in sessions]


def test_every_way_to_write_a_host(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    host = rig.hosts[0]
    forms = [host.target, f"{host.user}@{host.target}", f"{host.user}@{host.address}:{host.port}"]
    if rig.own_address:
        forms += [host.address, host.address6, f"{host.user}@[{host.address6}]:{host.port}"]
    for form in forms:
        session = start(install_spec([form]))
        assert session.host == form
        if rig.own_address:
            assert session.value(HOSTNAME) == host.name


def test_proxy_jump_and_proxy_command(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    first, second = rig.hosts
    config = home / ".ssh/config"
    kept = config.read_text()
    ssh = shutil.which("ssh")
    config.write_text(
        f"Host jumped\n HostName {second.address}\n Port {second.port}\n User {second.user}\n"
        f" ProxyJump {first.target}\n"
        f"Host commanded\n HostName {second.address}\n Port {second.port}\n User {second.user}\n"
        f" ProxyCommand {ssh} -F {config} -W %h:%p {first.target}\n{kept}"
    )
    try:
        for name in ("jumped", "commanded"):
            session = start(install_spec([name]))
            if rig.own_address:
                assert session.value(HOSTNAME) == second.name
                peers = session.value("__import__('os').popen('ss -tnH').read()").splitlines()
                assert peers
                assert all(first.address in peer for peer in peers), peers
            session.manager.shutdown_kernel(now=True)
    finally:
        config.write_text(kept)


def test_keys_of_an_agent(
    rig: Rig,
    home: Path,
    install_spec: InstallSpec,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    key = home / ".ssh/id_ed25519"
    socket = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(socket):
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        hidden = key.rename(key.with_name("hidden"))
        try:
            assert start(install_spec(rig.hosts[0].target)).value("1") == 1
        finally:
            hidden.rename(key)
    finally:
        agent.terminate()
        agent.wait()


def test_certificates(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    home = be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    authority = home / "authority"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-s",
            authority,
            "-I",
            "me",
            "-n",
            host.user,
            home / ".ssh/id_ed25519.pub",
        ],
        check=True,
    )
    host.write("/tmp/authority.pub", authority.with_suffix(".pub").read_text(), 0o644)
    host.sshd_option(TrustedUserCAKeys="/tmp/authority.pub")
    host.refuse_keys()
    assert start(install_spec(host.target)).value("1") == 1


def test_round_robin_across_kernelspecs(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    hosts = [host.target for host in rig.hosts]
    one, two = install_spec(hosts, name="one"), install_spec(",".join(hosts), name="two")
    sessions = [start(name) for name in (one, two, one)]
    assert [session.host for session in sessions] == [hosts[0], hosts[1], hosts[0]]
    if rig.own_address:
        names = [rig.hosts[0].name, rig.hosts[1].name, rig.hosts[0].name]
        assert on_hosts(sessions) == names


def test_least_connection_and_pins(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    a, b = (host.target for host in rig.hosts)
    name = install_spec([a, b], load_balancing_algorithm="least-connection")
    assert start(name, env={"KERNEL_REMOTE_HOST": a}).host == a
    second = start(name)
    assert second.host == b
    assert start(name, env={"KERNEL_REMOTE_HOST": a}).host == a
    assert start(name).host == b
    second.manager.shutdown_kernel(now=True)
    assert start(name).host == b


def test_a_pin_outside_of_the_list(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    a, b = (host.target for host in rig.hosts)
    assert start(install_spec([a]), env={"KERNEL_REMOTE_HOST": b}).host == b


def test_one_connection_and_no_port(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    host = rig.hosts[0]
    if not rig.own_address:
        pytest.skip("hosts share the loopback interface here")
    name = install_spec(host.target)
    sessions = [start(name) for _ in range(3)]
    assert host.tcp_connections() == 1
    beyond_loopback = [
        listener for listener in host.listening() if not listener.startswith(("127.", "[::1]"))
    ]
    assert {listener.rpartition(":")[2] for listener in beyond_loopback} == {str(host.port)}
    assert len({session.kernel.pid for session in sessions}) == 3


# -- the network ---------------------------------------------------------------------------


def test_a_dropped_connection_is_made_again(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """Kernel, variables and the client's sockets survive; nobody is told that it died."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target))
    session.run("kept = 'kept'")
    host.stop_sshd(sessions=True)
    assert session.manager.is_alive()
    time.sleep(1)
    assert session.manager.is_alive()
    host.start_sshd()
    reconnected(session)
    assert session.value("kept") == "kept"


def ipykernels(host: Host) -> list[Process]:
    return [process for process in host.processes() if "ipykernel" in " ".join(process.argv)]


def reconnected(session: Session, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    eventually(lambda: session.kernel.life.serving, seconds)
    with contextlib.suppress(queue.Empty):
        while True:
            session.client.get_iopub_msg(timeout=0)
    while True:  # a request that was lost with the connection has no answer, or no output
        try:
            session.client.kernel_info(reply=True, timeout=1)
            session.client.get_iopub_msg(timeout=1)
        except (TimeoutError, queue.Empty):
            assert time.monotonic() < deadline
        else:
            return


def test_an_exit_while_away_is_reported_with_its_code(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target))
    pid = session.value("__import__('os').getpid()")
    session.client.execute(
        "import os, time\nopen('/tmp/on', 'w').close()\n"
        "while not os.path.exists('/tmp/go'): time.sleep(0.01)\nos._exit(5)"
    )
    eventually(lambda: "on" in host.files("/tmp"))
    host.stop_sshd(sessions=True)
    host.run(["touch", "/tmp/go"])
    eventually(lambda: pid not in [process.pid for process in host.processes()])
    assert session.manager.is_alive()
    host.start_sshd()
    eventually(lambda: not session.manager.is_alive(), 20)
    assert session.kernel.life.exit_code == 5


def test_dead_after_the_grace_with_the_reason(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target, network_grace=1.0))
    host.stop_sshd(sessions=True)
    eventually(lambda: not session.manager.is_alive(), 10)
    assert session.kernel.life.reason == "the host was unreachable for 1 s"
    host.start_sshd()
    # It is ended when the host is back: the check that nothing is left is the assertion.
    session.manager.shutdown_kernel(now=True)
    eventually(lambda: not ipykernels(host), 20)


def test_shutdown_of_an_unreachable_kernel_does_not_wait(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target))
    host.stop_sshd(sessions=True)
    eventually(lambda: not session.kernel.life.serving, 10)
    began = time.monotonic()
    session.manager.shutdown_kernel()
    assert time.monotonic() - began < 3
    host.start_sshd()
    eventually(lambda: not ipykernels(host), 20)


def test_a_rebooted_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    name = install_spec(host.target)
    session = start(name)
    host.power_off()
    assert session.manager.is_alive()
    host.power_on()
    eventually(lambda: not session.manager.is_alive(), 40)
    assert "rebooted" in session.kernel.life.reason
    assert start(name).value("1") == 1


def test_kernelspecs_that_differ_share_the_connection(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    host = rig.hosts[0]
    if not rig.own_address:
        pytest.skip("hosts share the loopback interface here")
    one = install_spec(host.target, name="one", environment_hook="export WHICH=one")
    two = install_spec(host.target, name="two", environment_hook="export WHICH=two")
    which = "__import__('os').environ['WHICH']"
    assert [start(name).value(which) for name in (one, two)] == ["one", "two"]
    assert host.tcp_connections() == 1


def test_two_ways_to_write_a_host_live_side_by_side(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    host = rig.hosts[0]
    sessions = [
        start(install_spec(form))
        for form in (host.target, f"{host.user}@{host.target}", f"{host.address}:{host.port}")
    ]
    assert [session.value("1") for session in sessions] == [1, 1, 1]


def test_an_agent_that_was_killed_has_a_successor(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """It takes over the kernels, and the templates of the killed one are gone."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    name = install_spec(host.target)
    session, other = start(name), start(name)
    pid = session.kernel.pid
    session.run("kept = 'kept'")
    host.run(["pkill", "-9", "-f", "agent.pyz"])
    eventually(lambda: not session.kernel.life.serving)
    reconnected(session)
    assert session.value("kept") == "kept"
    assert session.kernel.pid == pid
    assert "KeyboardInterrupt" in interrupt(session)
    other.client.execute("import os; os._exit(4)")
    eventually(lambda: not other.manager.is_alive())
    life = other.kernel.life
    assert life.exit_code == 4 or (
        life.exit_code == -1 and "the agent that had started it was killed" in life.reason
    )
    assert start(name).value("1") == 1
    session.manager.shutdown_kernel()
    assert pid not in [process.pid for process in ipykernels(host)]


def test_a_restart_waits_for_its_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """Within the grace it comes back to where it was, whatever other hosts there are."""
    be_client(own_rig, monkeypatch)
    a, b = own_rig.hosts[:2]
    session = start(install_spec([a.target, b.target]))
    before = session.kernel.pid
    a.stop_sshd(sessions=True)
    eventually(lambda: not session.kernel.life.serving)
    timer = threading.Timer(2, a.start_sshd)
    timer.start()
    session.manager.restart_kernel(now=True)
    timer.join()
    session.client.kernel_info(reply=True, timeout=20)
    assert session.host == a.target
    assert session.kernel.pid != before
    eventually(lambda: before not in [process.pid for process in ipykernels(a)])


@pytest.mark.parametrize("pinned", [False, True])
def test_a_restart_moves_after_the_grace_unless_pinned(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    pinned: bool,
) -> None:
    be_client(own_rig, monkeypatch)
    a, b = own_rig.hosts[:2]
    env = {"KERNEL_REMOTE_HOST": a.target} if pinned else {}
    session = start(install_spec([a.target, b.target], network_grace=1.5), env=env)
    left = session.kernel.pid
    a.stop_sshd(sessions=True)
    eventually(lambda: not session.kernel.life.serving)
    if pinned:
        with pytest.raises(UnreachableError, match=f"host {a.target}: port 22 refuses"):
            session.manager.restart_kernel(now=True)
        a.start_sshd()
        session.manager.restart_kernel(now=True)
        assert session.host == a.target
    else:
        session.manager.restart_kernel(now=True)
        assert session.host == b.target
        a.start_sshd()
    reconnected(session)  # by the sockets that it had
    assert session.value("1") == 1
    eventually(lambda: left not in [process.pid for process in ipykernels(a)], 20)


def test_restart_after_the_grace(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """The lost process is ended when its successor starts: never two of one kernel."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    session = start(install_spec(host.target, network_grace=0.5))
    lost = session.kernel.pid
    host.stop_sshd(sessions=True)
    eventually(lambda: not session.manager.is_alive())
    host.start_sshd()
    session.manager.restart_kernel(now=True)
    reconnected(session)  # a lost kernel's clients are let go, and come back in their own time
    assert session.value("1") == 1
    assert lost not in [process.pid for process in ipykernels(host)]


@pytest.mark.parametrize("option", ["UserKnownHostsFile none", "StrictHostKeyChecking no"])
def test_keys_of_jump_hosts_are_checked_as_well(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, option: str
) -> None:
    first, second = rig.hosts
    config, known = home / ".ssh/config", home / ".ssh/known_hosts"
    kept, kept_known = config.read_text(), known.read_text()
    config.write_text(
        f"Host jump\n HostName {first.address}\n Port {first.port}\n User {first.user}\n {option}\n"
        f"Host jumped\n HostName {second.address}\n Port {second.port}\n User {second.user}\n"
        f" ProxyJump jump\n{kept}"
    )
    lines = [line for line in kept_known.splitlines() if first.host_key.split()[1] not in line]
    known.write_text("\n".join(lines) + "\n")
    try:
        with pytest.raises(HostKeyError, match="host jumped: jump host jump: the host key is unkn"):
            start(install_spec(["jumped"]))
    finally:
        config.write_text(kept)
        known.write_text(kept_known)
