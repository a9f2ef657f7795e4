"""JupyterLab and jupyter_server, by HTTP and websocket, with kernels on hosts."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
import websocket

from ..conftest import SLEEP, InstallSpec, be_client
from ..rig import Rig
from .applications import (
    V1,
    WHERE,
    Applications,
    Server,
    eventually,
    kernels_on,
    names_of,
    spread_as,
)


@pytest.fixture
def targets(rig: Rig) -> list[str]:
    """The hosts as they are written in remote_hosts."""
    return [host.target for host in rig.hosts]


def test_a_notebook_in_lab(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec()
    applications.configure("jupyter_lab", remote_hosts=targets[:1])
    (applications.root / "papers").mkdir()
    lab = applications.server("lab")

    status, specs = lab.ask("GET", "/api/kernelspecs")
    assert status == 200
    assert specs["kernelspecs"]["remote"]["spec"]["display_name"] == "remote"

    status, session = lab.ask(
        "POST",
        "/api/sessions",
        {
            "path": "papers/one.ipynb",
            "name": "one.ipynb",
            "type": "notebook",
            "kernel": {"name": "remote"},
        },
    )
    assert status == 201, session
    kernel = session["kernel"]["id"]

    for subprotocol in ("", V1):
        channels = lab.connect(kernel, subprotocol)
        name, pid = channels.run(WHERE).split()
        assert name == names_of(rig)[0]
        assert int(pid) in kernels_on(rig.hosts[0])
        channels.close()

    # The notebook's directory, or the home directory where the host has no such directory.
    here = applications.root / "papers"
    there = rig.hosts[0].home if rig.own_address else here
    assert lab.run(kernel, "print(os.getcwd())") == f"{there}\n"
    # What jupyter_server tells a session's kernel; also one that was restarted.
    notebook = f"{here}/one.ipynb\n"
    assert lab.run(kernel, "print(os.environ['JPY_SESSION_NAME'])") == notebook
    assert lab.run(kernel, "print(__session__)") == notebook
    session_of_file = "import json; from ipykernel import get_connection_file as f; "
    session_of_file += "print(json.load(open(f()))['jupyter_session'])"
    assert lab.run(kernel, session_of_file) == notebook

    assert lab.ask("DELETE", f"/api/sessions/{session['id']}") == (204, None)
    assert lab.ask("GET", "/api/kernels") == (200, [])
    assert not kernels_on(rig.hosts[0])


def test_interrupt_and_restart(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets)
    server = applications.server("server")
    kernel = server.start_kernel()
    other = server.start_kernel()  # the next in turn is the first host again: no restart takes it
    channels = server.connect(kernel)
    first = channels.run(WHERE).split()
    second_host = server.run(other, WHERE).split()[0]

    request = channels.execute(SLEEP)
    replies = channels.replies(request)
    assert any(reply["content"].get("text") == "on\n" for reply in replies)
    began = time.monotonic()
    assert server.ask("POST", f"/api/kernels/{kernel}/interrupt") == (204, None)
    enames = [reply["content"].get("ename") for reply in replies]
    assert "KeyboardInterrupt" in enames
    assert time.monotonic() - began < 30

    for _ in range(2):  # the websocket stays open; it is that of the next process now
        status, model = server.ask("POST", f"/api/kernels/{kernel}/restart")
        assert (status, model["id"]) == (200, kernel)
        again = channels.run(WHERE).split()
        assert again[0] == first[0]
        assert again[1] != first[1]
        assert int(first[1]) not in kernels_on(rig.hosts[0])
        first = again
    assert server.run(other, WHERE).split()[0] == second_host


def test_several_restarts_at_once_are_one(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    """Two pages of one notebook, or an impatient person."""
    install_spec(targets[0])
    server = applications.server("server")
    kernel = server.start_kernel()
    first = server.run(kernel, WHERE)
    with ThreadPoolExecutor() as pool:
        path = f"/api/kernels/{kernel}/restart"
        statuses = [status for status, _ in pool.map(lambda _: server.ask("POST", path), range(3))]
    assert statuses == [200, 200, 200]
    assert server.run(kernel, WHERE) != first
    assert len(kernels_on(rig.hosts[0])) == 1


def test_interrupted_and_restarted_while_it_starts(
    targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    late = "import sys, time; time.sleep(1.5); from ipykernel import kernelapp as k; "
    late += "k.launch_new_instance(argv=sys.argv[1:])"
    install_spec(targets[0], argv=["python", "-c", late, "-f", "{connection_file}"])
    server = applications.server("server")
    session = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "remote"}}
    status, model = server.ask("POST", "/api/sessions", session)
    kernel = model["kernel"]["id"]
    assert (status, model["kernel"]["execution_state"]) == (201, "starting")
    status, answer = server.ask("POST", f"/api/kernels/{kernel}/interrupt")
    assert (status, answer["message"]) == (
        409,
        f"kernel {kernel} still starts: interrupt it when it runs",
    )
    status, _ = server.ask("POST", f"/api/kernels/{kernel}/restart")
    assert status == 200
    assert server.run(kernel, "print(6 * 7)") == "42\n"


def test_a_kernel_that_dies_is_started_again(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets)
    server = applications.server("server")
    kernel = server.start_kernel()
    channels = server.connect(kernel)
    first = channels.run(WHERE).split()
    channels.execute("os._exit(3)")
    channels.wait_for_state("restarting")
    again = channels.run(WHERE).split()
    assert again[0] == first[0]
    assert again[1] != first[1]
    assert [pid for host in rig.hosts for pid in kernels_on(host)] == [int(again[1])]


@pytest.mark.parametrize("form", ["file", "command line", "environment"])
def test_every_way_to_configure_the_hosts(
    rig: Rig,
    targets: list[str],
    install_spec: InstallSpec,
    applications: Applications,
    form: str,
) -> None:
    install_spec()
    options, env = [], {}
    if form == "file":
        applications.configure("jupyter_server", remote_hosts=targets)
    elif form == "command line":
        options = [f"--RemoteProvisionerConfigMixin.remote_hosts={','.join(targets)}"]
    else:
        env = {"RP_REMOTE_HOSTS": ",".join(targets)}
    server = applications.server("server", *options, **env)
    kernels = [server.start_kernel() for _ in rig.hosts]
    names = [server.run(kernel, WHERE).split()[0] for kernel in kernels]
    assert sorted(names) == sorted(names_of(rig))  # rounds begin anywhere
    assert spread_as(rig, [1, 1])
    for kernel in kernels:
        assert server.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
    assert server.ask("GET", "/api/kernels") == (200, [])
    assert spread_as(rig, [0, 0])


def test_what_a_failing_start_answers(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    """The status of the error's class, and a message with the host and the cause; soon."""
    host = targets[0]
    early = ["python", "-c", "raise SystemExit('no licence')", "{connection_file}"]
    silent = ["python", "-c", "import time; time.sleep(60)", "{connection_file}"]
    expected = {
        "nowhere": (503, "host no-such-host.invalid: the name does not resolve"),
        "early": (
            500,
            f"host {host}: the kernel ended at once with exit code 1; it printed:\nno licence",
        ),
        "program": (500, f"host {host}: program 'no-such-kernel' is not on PATH"),
        "silent": (504, f"host {host}: the kernel did not open its ports within 1 s"),
        "option": (400, "unknown load balancing algorithm 'best'"),
    }
    install_spec("no-such-host.invalid", name="nowhere")
    install_spec(host, name="early", argv=early)
    install_spec(host, name="program", argv=["no-such-kernel", "{connection_file}"])
    install_spec(host, name="silent", argv=silent, launch_timeout=1)
    install_spec(host, name="option", load_balancing_algorithm="best")
    install_spec(host, name="good")
    server = applications.server("server")
    for name, (status, message) in expected.items():
        began = time.monotonic()
        answered, answer = server.ask("POST", "/api/kernels", {"name": name})
        assert (answered, answer["message"][: len(message)]) == (status, message)
        # Of a session's error jupyter_server keeps the message only.
        body = {"path": "n.ipynb", "name": "n", "type": "notebook", "kernel": {"name": name}}
        answered, answer = server.ask("POST", "/api/sessions", body)
        if answered == 201:  # it took longer than JupyterLab would be patient
            model = f"/api/kernels/{answer['kernel']['id']}"
            eventually(lambda model=model: server.ask("GET", model)[1]["execution_state"] == "dead")
            assert server.ask("GET", model)[1]["reason"][: len(message)] == message
            assert server.ask("DELETE", f"/api/sessions/{answer['id']}") == (204, None)
        else:
            assert (answered, answer["message"][: len(message)]) == (500, message)
        assert time.monotonic() - began < 20
    assert server.ask("GET", "/api/kernels") == (200, [])
    assert not kernels_on(rig.hosts[0])
    good = server.start_kernel("good")
    assert server.run(good, "print(6 * 7)") == "42\n"
    # Without us jupyter_server does not end itself after a start that failed while a kernel runs:
    # its manager still expects the one that failed.
    assert server.end() == 0
    eventually(lambda: not kernels_on(rig.hosts[0]))


def test_a_notebook_is_opened_again_after_a_start_that_failed_late(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    failing = "sleep 1; test -e /tmp/licence || { echo no licence >&2; exit 3; }"
    install_spec(targets[0], environment_hook=failing)
    server = applications.server("server")
    body = {"path": "n.ipynb", "name": "n", "type": "notebook", "kernel": {"name": "remote"}}
    _, session = server.ask("POST", "/api/sessions", body)
    first = session["kernel"]["id"]
    assert session["kernel"]["execution_state"] == "starting"
    with pytest.raises(websocket.WebSocketBadStatusException):
        server.connect(first)  # it waits for the start, and for nothing else
    rig.hosts[0].run(["touch", "/tmp/licence"])
    _, session = server.ask("POST", "/api/sessions", body)
    assert session["kernel"]["id"] != first
    assert server.run(session["kernel"]["id"], "print(6 * 7)").endswith("42\n")
    # One that is given up while it starts is not waited for.
    install_spec(targets[0], environment_hook="sleep 30")
    _, other = server.ask("POST", "/api/sessions", {**body, "path": "m.ipynb"})
    began = time.monotonic()
    assert server.ask("DELETE", f"/api/sessions/{other['id']}") == (204, None)
    _, other = server.ask("POST", "/api/sessions", {**body, "path": "m.ipynb"})
    assert server.end() == 0
    assert time.monotonic() - began < 15
    rig.hosts[0].run(["rm", "/tmp/licence"])
    eventually(lambda: not kernels_on(rig.hosts[0]))


def test_an_idle_kernel_is_culled(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(targets[0])
    server = applications.server(
        "server",
        "--MappingKernelManager.cull_idle_timeout=1",
        "--MappingKernelManager.cull_interval=1",
    )
    server.run(server.start_kernel(), "kept = 1")
    eventually(lambda: server.ask("GET", "/api/kernels") == (200, []))
    assert not kernels_on(rig.hosts[0])


@pytest.mark.parametrize("end", ["SIGTERM", "POST"])
def test_the_end_of_the_server_is_the_end_of_its_kernels(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications, end: str
) -> None:
    install_spec([*targets, "localhost"])
    server = applications.server("server")
    kernels = [server.start_kernel() for _ in range(3)]
    server.run(kernels[1], "import subprocess; child = subprocess.Popen(['sleep', '300'])")
    # One each, and the child; rounds begin anywhere.
    assert any(spread_as(rig, counts) for counts in ([1, 2], [2, 1], [1, 1]))
    if end == "SIGTERM":
        assert server.end(signal.SIGTERM) == 0
    else:
        assert server.ask("POST", "/api/shutdown", {})[0] == 200
        assert server.wait() == 0
    # The agents, with nobody left to serve, end as well; nothing of this machine is left either.
    eventually(lambda: not [p for host in rig.hosts for p in host.processes()], 5)


def refused(server: Server) -> None:
    """Ask for a kernel that there will not be: an error, or the connection just ends."""
    with suppress(OSError, HTTPException):
        assert server.ask("POST", "/api/kernels", {"name": "remote"})[0] >= 400


def test_the_end_of_the_server_while_a_kernel_starts(
    rig: Rig, targets: list[str], install_spec: InstallSpec, applications: Applications
) -> None:
    sleep = "import time; time.sleep(120)"
    install_spec(targets[0], argv=["python", "-c", sleep, "{connection_file}"])
    server = applications.server("server")
    asking = threading.Thread(target=refused, args=(server,))
    asking.start()
    eventually(lambda: kernels_on(rig.hosts[0]))
    assert server.end(signal.SIGTERM) == 0
    asking.join()
    eventually(lambda: not rig.hosts[0].processes(), 5)


def test_the_end_of_the_server_while_a_restart_waits_for_its_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install_spec: InstallSpec
) -> None:
    """The restart is given up, by DELETE as well; jupyter_client alone cannot shut down then."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    install_spec(host.target, network_grace=300.0)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        kernels = [server.start_kernel() for _ in range(2)]
        host.stop_sshd(sessions=True)
        asking = [
            threading.Thread(target=server.ask, args=("POST", f"/api/kernels/{kernel}/restart"))
            for kernel in kernels
        ]
        for thread in asking:
            thread.start()
        eventually(lambda: applications.in_progress == ["restart", "restart"])
        assert all(thread.is_alive() for thread in asking)
        assert server.ask("DELETE", f"/api/kernels/{kernels[0]}")[0] == 204
        asking[0].join(5)
        assert not asking[0].is_alive()
        assert server.end(signal.SIGTERM) == 0
        assert "InvalidStateError" not in server.output
        for thread in asking:
            thread.join()
    host.start_sshd()
    for process in host.processes():  # their leases would run for days
        host.run(["kill", "-KILL", str(process.pid)], check=False)
    host.run(["sh", "-c", "rm -rf /tmp/remote-provisioners-*"])
