"""A Jupyter server is killed, or stopped, and started again: its kernels on hosts come back."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import websocket

import remote_provisioners

from ..conftest import SLEEP, InstallSpec, be_client
from ..rig import Rig
from ..small_disk import fill, small_disk
from .applications import WHERE, Applications, Server, agents_on, eventually, kernels_on


@pytest.fixture
def targets(rig: Rig) -> list[str]:
    return [host.target for host in rig.hosts]


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def open_notebook(server: Server, path: str, kernel: str = "remote") -> dict[str, Any]:
    """The session of a notebook with a new kernel."""
    body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
    status, session = server.ask("POST", "/api/sessions", body)
    assert status == 201, session
    return session


def identities(server: Server) -> set[tuple[str, ...]]:
    """Of all sessions: id, path, name, type and the id of the kernel."""
    _, sessions = server.ask("GET", "/api/sessions")
    return {(s["id"], s["path"], s["name"], s["type"], s["kernel"]["id"]) for s in sessions}


def kernel_ids(server: Server) -> set[str]:
    return {kernel["id"] for kernel in server.ask("GET", "/api/kernels")[1]}


def state(server: Server, kernel: str) -> str:
    return str(server.ask("GET", f"/api/kernels/{kernel}")[1].get("execution_state"))


def records(applications: Applications) -> list[Path]:
    return sorted(applications.directory.glob("data/remote-provisioners/*/*.json"))


def test_kernels_and_sessions_of_a_killed_server(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets)
    server = applications.server("server")
    one, two = (open_notebook(server, path) for path in ("one.ipynb", "two.ipynb"))
    bare = server.start_kernel()
    server.ask("PATCH", f"/api/sessions/{two['id']}", {"path": "renamed.ipynb", "name": "renamed"})
    where = {}
    for kernel in (one["kernel"]["id"], two["kernel"]["id"], bare):
        where[kernel] = server.run(kernel, f"kept = '{kernel}'; {WHERE}")
    before = identities(server)
    assert {path for _, path, *_ in before} == {"one.ipynb", "renamed.ipynb"}
    for path in records(applications):
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kill(server)

    server = applications.server("server")
    assert kernel_ids(server) == {*where}  # the first question that it is asked
    assert identities(server) == before
    for kernel, place in where.items():
        assert server.run(kernel, f"print(kept); {WHERE}") == f"{kernel}\n{place}"
        eventually(lambda kernel=kernel: state(server, kernel) == "idle")

    kernel = one["kernel"]["id"]
    channels = server.connect(kernel)
    request = channels.execute(SLEEP)
    replies = channels.replies(request)
    assert any(reply["content"].get("text") == "on\n" for reply in replies)
    assert server.ask("POST", f"/api/kernels/{kernel}/interrupt") == (204, None)
    assert "KeyboardInterrupt" in [reply["content"].get("ename") for reply in replies]

    assert server.ask("POST", f"/api/kernels/{kernel}/restart")[0] == 200
    again = channels.run(WHERE)
    assert again.split()[0] == where[kernel].split()[0]
    assert again != where[kernel]
    channels.execute("os._exit(3)")  # the restarter is back as well
    channels.wait_for_state("restarting")
    assert channels.run(WHERE).split()[0] == where[kernel].split()[0]

    kill(server)  # and once more, with a process that is another one by now
    server = applications.server("server")
    assert identities(server) == before
    assert server.run(kernel, "print('kept' in dir())") == "False\n"
    assert server.ask("DELETE", f"/api/sessions/{one['id']}") == (204, None)
    assert server.ask("DELETE", f"/api/sessions/{two['id']}") == (204, None)
    assert kernel_ids(server) == {bare}
    assert len(records(applications)) == 1
    assert server.end() == 0
    assert not list(applications.directory.glob("data/remote-provisioners/*"))
    eventually(lambda: not any(kernels_on(host) for host in rig.hosts))


IN_NO_TIME = """
from remote_provisioners.server import extension
extension._SECONDS = 0.0
"""


def test_more_kernels_than_can_be_restored_before_a_server_answers(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    """The others are there a moment later."""
    install_spec(targets)
    server = applications.server("server")
    kernels = {server.start_kernel() for _ in range(3)}
    kill(server)
    (applications.config / "jupyter_server_config.py").write_text(IN_NO_TIME)
    server = applications.server("server")
    eventually(lambda: kernel_ids(server) == kernels)
    for kernel in kernels:
        assert server.run(kernel, "print(1)") == "1\n"
        assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)


def test_the_disk_of_the_records_is_full_while_an_agent_is_killed(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install_spec: InstallSpec
) -> None:
    """Kernels start and stay. Their records are written when there is room."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    install_spec(host.target)
    with small_disk(tmp_path / "data", "1m") as filling, Applications(tmp_path) as applications:
        server = applications.server("server")
        before = server.start_kernel()
        server.run(before, "kept = 1")
        fill(filling)
        host.run(["pkill", "-9", "-f", "agent.pyz"])
        after = server.start_kernel()
        server.run(after, "kept = 2")
        assert "cannot write its record" in server.output
        filling.unlink()
        server.expect(f"kernel {after}: its record is written now")
        kill(server)
        server = applications.server("server")
        assert server.run(before, "print(kept)") == "1\n"
        assert server.run(after, "print(kept)") == "2\n"
        for kernel in (before, after):
            assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)


@pytest.mark.parametrize("killed", [True, pytest.param(False, marks=pytest.mark.long)])
def test_what_is_left_on_another_host_is_ended_by_the_next_server(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    install_spec: InstallSpec,
    killed: bool,
) -> None:
    """A kernel has moved away from a host that could not be reached, and its server ends."""
    be_client(own_rig, monkeypatch)
    a, b = own_rig.hosts[:2]
    install_spec([a.target, b.target], load_balancing_algorithm="fill", network_grace=1.5)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        kernel = server.start_kernel()
        left = kernels_on(a)
        assert left
        a.stop_sshd(sessions=True)
        server.expect("connection lost")
        assert server.ask("POST", f"/api/kernels/{kernel}/restart")[0] == 200
        server.run(kernel, "kept = 1")
        assert kernels_on(b)
        if killed:
            kill(server)
        else:
            assert server.end() == 0
        assert kernels_on(a) == left
        a.start_sshd()
        server = applications.server("server")
        eventually(lambda: not kernels_on(a))
        if killed:
            assert server.run(kernel, "print(kept)") == "1\n"
            assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
        assert kernel_ids(server) == set()


def test_killed_while_a_restart_moves_to_another_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install_spec: InstallSpec
) -> None:
    """The next server completes it there, and ends what is left of it."""
    be_client(own_rig, monkeypatch)
    a, b = own_rig.hosts[:2]
    slow = {"host": b.target, "environment_hook": "sleep 3"}
    install_spec([a.target, slow], load_balancing_algorithm="fill", network_grace=1.5)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        session = open_notebook(server, "one.ipynb")
        kernel = session["kernel"]["id"]
        server.run(kernel, "kept = 1")
        a.stop_sshd(sessions=True)
        server.expect("connection lost")
        restarting = threading.Thread(target=ask_for_restart, args=(server, kernel))
        restarting.start()
        eventually(lambda: kernels_on(b))
        kill(server)
        restarting.join()
        a.start_sshd()
        server = applications.server("server")
        assert identities(server) == {(session["id"], "one.ipynb", "one.ipynb", "notebook", kernel)}
        server.expect("restarted, because its server was restarting it|restored on")
        assert server.run(kernel, "print(6 * 7)") == "42\n"
        eventually(lambda: not kernels_on(a))
        assert server.ask("DELETE", f"/api/sessions/{session['id']}") == (204, None)


def ask_for_restart(server: Server, kernel: str) -> None:
    with suppress(OSError, HTTPException):  # the server is killed meanwhile
        server.ask("POST", f"/api/kernels/{kernel}/restart")


def test_a_notebook_whose_kernel_ended_meanwhile_gets_a_new_one(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0])
    server = applications.server("server")
    session = open_notebook(server, "one.ipynb")
    dead, alive = session["kernel"]["id"], server.start_kernel()
    pid = server.run(dead, WHERE).split()[1]
    server.run(alive, "kept = 1")
    kill(server)
    rig.hosts[0].run(["kill", "-9", pid])

    server = applications.server("server")
    eventually(lambda: kernel_ids(server) == {alive})
    assert f"kernel {dead} on {targets[0]}: ended in the meantime: exit code -9" in server.output
    assert not identities(server)
    assert server.run(alive, "print(kept)") == "1\n"
    assert len(records(applications)) == 1

    kernel = open_notebook(server, "one.ipynb")["kernel"]["id"]
    assert kernel != dead
    channels = server.connect(kernel)
    shown = channels.run("print(6 * 7)")
    assert shown.endswith("42\n")
    assert "This is a new kernel. The kernel ended while there was no server: exit code -9" in shown
    assert channels.run("print(6 * 7)") == "42\n"  # said once
    assert len(records(applications)) == 2
    for found in (kernel, alive):
        assert server.ask("DELETE", f"/api/kernels/{found}") == (204, None)
    eventually(lambda: not kernels_on(rig.hosts[0]))


@pytest.mark.parametrize("leave", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_server_without_a_terminal_that_gets_sigint(
    rig: Rig,
    targets: list[str],
    install_spec: InstallSpec,
    applications: Applications,
    leave: bool,
) -> None:
    install_spec(targets[0], leave_kernels_running=leave)
    server = applications.server("server")
    kernel = open_notebook(server, "one.ipynb")["kernel"]["id"]
    server.run(kernel, "kept = 1")
    assert server.end(signal.SIGINT) == 0
    eventually(lambda: len(kernels_on(rig.hosts[0])) == int(leave))
    assert len(records(applications)) == int(leave)

    server = applications.server("server")
    assert kernel_ids(server) == ({kernel} if leave else set())
    again = open_notebook(server, "one.ipynb")["kernel"]["id"]
    assert (again == kernel) == leave
    assert server.run(again, "print('kept' in dir())") == f"{leave}\n"
    assert server.ask("DELETE", f"/api/kernels/{again}") == (204, None)


def test_a_kernel_that_jupyter_remote_stop_has_ended(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0])
    server = applications.server("server")
    dead = open_notebook(server, "one.ipynb")["kernel"]["id"]
    server.run(dead, "kept = 1")
    kill(server)
    stop = applications.jupyter("remote", "stop", dead, f"--host={targets[0]}")
    assert stop.wait() == 0
    server = applications.server("server")
    assert not kernel_ids(server)
    assert (
        f"kernel {dead} on {targets[0]}: ended in the meantime: `jupyter remote stop`"
        in server.output
    )
    kernel = open_notebook(server, "one.ipynb")["kernel"]["id"]
    assert "`jupyter remote stop` ended it" in server.run(kernel, "print(6 * 7)")
    assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)


def test_output_of_the_time_without_a_server(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0])
    server = applications.server("server")
    kernel = open_notebook(server, "one.ipynb")["kernel"]["id"]
    channels = server.connect(kernel)
    channels.execute(
        "import os, time\ndef wait(name):\n"
        "    while not os.path.exists(name): time.sleep(0.1)\n"
        "    os.unlink(name)\n"
        "print('on', flush=True); wait('/tmp/away'); print('while away', flush=True)\n"
        "wait('/tmp/go'); print('and now')"
    )
    while channels.receive()["content"].get("text") != "on\n":
        pass
    kill(server)
    rig.hosts[0].run(["touch", "/tmp/away"])
    eventually(lambda: "away" not in rig.hosts[0].files("/tmp"))
    server = applications.server("server")
    channels = server.connect(kernel)  # it computes, and does not answer
    while channels.receive()["content"].get("text") != "while away\n":
        pass
    assert state(server, kernel) == "busy"
    rig.hosts[0].run(["touch", "/tmp/go"])
    while channels.receive()["content"].get("text") != "and now\n":
        pass
    eventually(lambda: state(server, kernel) == "idle")


def test_of_two_servers_at_once_each_kernel_has_one(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets)
    server = applications.server("server")
    kernels = {server.start_kernel() for _ in range(4)}
    kill(server)
    servers = [applications.server("server", wait=False) for _ in range(2)]
    for server in servers:
        server.wait_until_ready()
    one, two = (kernel_ids(server) for server in servers)
    assert one | two == kernels
    assert not one & two
    for server, found in zip(servers, (one, two), strict=True):
        for kernel in found:
            assert server.run(kernel, "print(6 * 7)") == "42\n"
    third = applications.server("server")
    assert kernel_ids(third) == set()


def test_a_server_of_another_directory_and_records_that_are_no_good(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0])
    server = applications.server("server")
    kernels = {server.start_kernel() for _ in range(3)}
    kill(server)
    damaged, readable, _ = records(applications)
    damaged.write_bytes(damaged.read_bytes()[:100])
    readable.chmod(0o640)
    root, applications.root = applications.root, applications.directory / "elsewhere"
    applications.root.mkdir()
    other = applications.server("server")
    applications.root = root
    assert kernel_ids(other) == set()
    assert other.end() == 0

    server = applications.server("server")
    found = kernel_ids(server)
    assert len(found) == 1
    assert found < kernels
    assert f"{damaged}: not used: it is not JSON: half-written, or damaged" in server.output
    assert f"{readable}: not used: it is open to others (mode 0640)" in server.output
    assert server.run(found.pop(), "print(6 * 7)") == "42\n"
    readable.chmod(0o600)  # as the message says
    kill(server)
    server = applications.server("server")
    assert len(kernel_ids(server)) == 2
    for kernel in kernel_ids(server):
        assert server.run(kernel, "print(6 * 7)") == "42\n"
    assert server.end() == 0
    stop = applications.jupyter("remote", "stop", "--all-unowned", f"--host={targets[0]}")
    stop.expect("ended")
    assert stop.wait() == 0
    eventually(lambda: not rig.hosts[0].processes())


def test_a_kernelspec_that_is_repaired_under_the_next_server(
    targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets)
    install_spec(targets, name="edited")
    server = applications.server("server")
    session = open_notebook(server, "one.ipynb", "edited")
    kernel = session["kernel"]["id"]
    place = server.run(kernel, f"kept = 1; {WHERE}")
    before = identities(server)
    kill(server)

    install_spec(["two hosts"], name="edited")
    server = applications.server("server")
    assert kernel_ids(server) == set()
    eventually(lambda: "cannot be restored" in server.output)
    assert f"kernel {kernel} on " in server.output
    assert "cannot read the host 'two hosts'" in server.output
    assert "Traceback" not in server.output
    other = open_notebook(server, "two.ipynb")  # a change of sessions, which are written down
    server.run(other["kernel"]["id"], "")
    eventually(lambda: any(other["id"] in path.read_text() for path in records(applications)))
    kill(server)

    server = applications.server("server")
    assert kernel_ids(server) == {other["kernel"]["id"]}
    install_spec(targets, name="edited")
    eventually(lambda: before < identities(server))
    assert server.run(kernel, f"print(kept); {WHERE}") == f"1\n{place}"
    for each in (session, other):
        assert server.ask("DELETE", f"/api/sessions/{each['id']}") == (204, None)
    assert server.end() == 0


@pytest.mark.parametrize("end", ["SIGTERM", pytest.param("POST", marks=pytest.mark.long)])
def test_a_server_that_leaves_its_kernels_running(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications, end: str
) -> None:
    install_spec(targets)
    install_spec(targets, name="ended", leave_kernels_running=False)
    applications.configure("jupyter_server", leave_kernels_running=True)
    server = applications.server("server")
    session = open_notebook(server, "one.ipynb")
    kernel, other = session["kernel"]["id"], server.start_kernel()
    server.start_kernel("ended")
    assert server.ask("DELETE", f"/api/kernels/{other}") == (204, None)  # its user ends it
    place = server.run(kernel, f"kept = 1; {WHERE}")
    before = identities(server)
    if end == "SIGTERM":
        assert server.end(signal.SIGTERM) == 0
    else:
        assert server.ask("POST", "/api/shutdown", {})[0] == 200
        assert server.wait() == 0
    assert sum(len(kernels_on(host)) for host in rig.hosts) == 1
    assert not list(applications.directory.glob("runtime/kernel-*"))

    server = applications.server("server")
    assert kernel_ids(server) == {kernel}
    assert identities(server) == before
    assert server.run(kernel, f"print(kept); {WHERE}") == f"1\n{place}"
    assert server.ask("DELETE", f"/api/sessions/{session['id']}") == (204, None)
    assert server.end() == 0
    eventually(lambda: not any(host.processes() for host in rig.hosts))


def test_a_host_that_cannot_be_reached_when_the_server_comes_back(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install_spec: InstallSpec
) -> None:
    be_client(own_rig, monkeypatch)
    away, there, _ = own_rig.hosts
    install_spec([away.target, there.target])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        kernels = [server.start_kernel() for _ in range(2)]  # one on each
        names = {server.run(kernel, WHERE).split()[0]: kernel for kernel in kernels}
        first, second = (names[host.run(["hostname"]).strip()] for host in (away, there))
        server.run(first, "kept = 1")
        kill(server)
        away.drop()
        server = applications.server("server")
        assert kernel_ids(server) == {first, second}
        assert server.run(second, "print(6 * 7)") == "42\n"
        assert state(server, first) == "busy"
        began = time.monotonic()
        channels = server.connect(first)
        # Not after the 60 s that a server waits for a kernel which does not answer.
        assert time.monotonic() - began < 30
        request = channels.execute("print(kept)")
        time.sleep(1)
        away.heal()
        texts = [reply["content"].get("text") for reply in channels.replies(request)]
        assert "1\n" in texts
        eventually(lambda: state(server, first) == "idle")


@pytest.mark.long
def test_a_host_that_is_away_for_longer_than_the_grace(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install_spec: InstallSpec
) -> None:
    """What it has is dead then; the next server finds it, unless its user starts it again."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    install_spec(host.target, network_grace=1.0)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        kept, restarted = server.start_kernel(), server.start_kernel()
        place = server.run(kept, f"kept = 1; {WHERE}")
        former = int(server.run(restarted, WHERE).split()[1])
        kill(server)
        host.drop()
        server = applications.server("server")
        for kernel in (kept, restarted):
            eventually(lambda kernel=kernel: state(server, kernel) == "dead")
        model = server.ask("GET", f"/api/kernels/{kept}")[1]
        assert model["reason"].endswith("the host was unreachable for 1 s")
        began = time.monotonic()
        with pytest.raises(websocket.WebSocketBadStatusException):
            server.connect(kept)  # which says so at once
        assert time.monotonic() - began < 5
        host.heal()

        def again() -> bool:
            return server.ask("POST", f"/api/kernels/{restarted}/restart")[0] == 200

        eventually(again, 30)
        assert server.run(restarted, "print(6 * 7)") == "42\n"
        assert former not in kernels_on(host)
        kill(server)
        install_spec(host.target, network_grace=60.0)  # a second may be too short to find a kernel
        server = applications.server("server")
        assert server.run(kept, f"print(kept); {WHERE}") == f"1\n{place}"
        assert server.run(restarted, "print(6 * 7)") == "42\n"


def test_a_server_that_was_upgraded(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    """The agent of the earlier version keeps its kernels, and ends with the last of them."""
    package = Path(remote_provisioners.__file__).parent
    earlier = applications.directory / "earlier"
    shutil.copytree(package, earlier / package.name)
    with (earlier / package.name / "agent" / "main.py").open("a") as file:
        file.write("# as it was\n")
    install_spec(targets[0])
    server = applications.server("server", PYTHONPATH=str(earlier))
    kernel = server.start_kernel()
    place = server.run(kernel, f"kept = 1; {WHERE}")
    kill(server)
    server = applications.server("server")
    new = server.start_kernel()
    assert len(agents_on(rig.hosts[0])) == 2
    assert server.run(kernel, f"print(kept); {WHERE}") == f"1\n{place}"
    listing = applications.jupyter("remote", "kernels", "--json", f"--host={targets[0]}")
    assert listing.wait() == 0
    found = {k["id"]: k["state"] for k in json.loads(listing.output)["kernels"]}
    assert found == dict.fromkeys((kernel, new), "in use")
    assert server.ask("POST", f"/api/kernels/{kernel}/restart")[0] == 200
    kill(server)
    server = applications.server("server")  # which finds one with each agent
    for found_again in (kernel, new):
        assert server.run(found_again, "print(6 * 7)") == "42\n"
    assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
    eventually(lambda: len(agents_on(rig.hosts[0])) == 1)
    assert server.run(new, "print(6 * 7)") == "42\n"


SCRIPT = """
import json, sys
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync
from remote_provisioners.errors import KernelLostError
manager = KernelManager(kernel_name="remote")
try:
    with open(sys.argv[1]) as file:
        left = json.load(file)
except FileNotFoundError:
    manager.start_kernel()
else:
    try:
        manager.start_kernel(kernel_id=left["kernel_id"], provisioner_info=left)
    except KernelLostError as error:
        print("lost:", error)
        sys.exit()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=30)
client.execute_interactive("count = globals().get('count', 0) + 1; print('count', count)")
client.stop_channels()
if sys.argv[2] == "restart":
    manager.restart_kernel()
if sys.argv[2] == "end":
    manager.shutdown_kernel()
else:
    with open(sys.argv[1], "w", opener=lambda *args: __import__("os").open(*args, 0o600)) as file:
        json.dump(run_sync(manager.provisioner.get_provisioner_info)(), file)
"""


def test_a_script_that_comes_back(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0], leave_kernels_running=True)
    left = str(applications.directory / "left.json")
    for count, last in ((1, "leave"), (2, "restart"), (1, "leave"), (2, "end")):
        script = applications.script(SCRIPT, left, last)
        script.expect(f"count {count}")
        assert script.wait() == 0
    script = applications.script(SCRIPT, left, "end")
    script.expect(r"lost: host .*: no kernel .* here")
    assert script.wait() == 0
    eventually(lambda: not rig.hosts[0].processes())


def test_a_restarted_kernel_knows_its_notebooks_new_name(
    targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0])
    server = applications.server("server")
    session = open_notebook(server, "one.ipynb")
    kernel = session["kernel"]["id"]
    tell = "import os; print(os.environ['JPY_SESSION_NAME'], __session__)"

    def renamed(path: str) -> None:
        body = {"path": path, "name": path}
        assert server.ask("PATCH", f"/api/sessions/{session['id']}", body)[0] == 200

    def told_after_restart() -> str:
        assert server.ask("POST", f"/api/kernels/{kernel}/restart")[0] == 200
        return server.run(kernel, tell)

    def names(path: str) -> str:
        return f"{applications.root / path} {applications.root / path}\n"

    assert server.run(kernel, tell) == names("one.ipynb")
    renamed("two.ipynb")
    assert told_after_restart() == names("two.ipynb")
    renamed("three.ipynb")
    kill(server)
    server = applications.server("server")
    assert told_after_restart() == names("three.ipynb")
