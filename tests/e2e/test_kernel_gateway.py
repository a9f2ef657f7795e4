"""jupyter_kernel_gateway: kernels on hosts for clients that send an environment."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ..conftest import SLEEP, InstallSpec
from ..rig import Rig
from .applications import (
    TOKEN,
    WHERE,
    Applications,
    Server,
    eventually,
    kernels_on,
    names_of,
    spread_as,
)

HOSTILE = "$(touch /tmp/pwned) 'q' \"Q\" ${HOME}\nsecond line"


@pytest.fixture
def gateway(rig: Rig, install_spec: InstallSpec, applications: Applications) -> Server:
    """A gateway whose configuration file names the first host and those who may use it."""
    install_spec()
    applications.configure(
        "jupyter_kernel_gateway",
        remote_hosts=[rig.hosts[0].target],
        authorized_users={"alice", "bob"},
        unauthorized_users={"bob"},
        unlisted_pins=True,
    )
    return applications.server("kernelgateway")


def test_the_environment_of_a_request(rig: Rig, gateway: Server) -> None:
    first, second = rig.hosts
    env = {"KERNEL_REMOTE_HOST": second.target, "KERNEL_USERNAME": "alice", "KERNEL_X": HOSTILE}
    kernel = gateway.start_kernel(env={**env, "OTHER": "not for kernels"})
    channels = gateway.connect(kernel)

    def of_the_kernel() -> None:
        assert channels.run(WHERE).split()[0] == names_of(rig)[1]
        assert channels.run("print(ascii(os.environ['KERNEL_X']))") == f"{HOSTILE!a}\n"
        assert channels.run("print('OTHER' in os.environ)") == "False\n"
        assert channels.run("print(os.environ['KERNEL_ID'])") == f"{kernel}\n"
        assert channels.run("print(os.path.exists('/tmp/pwned'))") == "False\n"

    of_the_kernel()
    assert gateway.ask("POST", f"/api/kernels/{kernel}/restart")[0] == 200
    of_the_kernel()
    assert not Path("/tmp/pwned").exists()
    assert not kernels_on(first)
    assert gateway.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
    assert not kernels_on(second)


def test_a_kernel_through_its_life(rig: Rig, gateway: Server) -> None:
    kernel = gateway.start_kernel(env={"KERNEL_USERNAME": "alice"})
    channels = gateway.connect(kernel)
    assert channels.run(WHERE).split()[0] == names_of(rig)[0]

    request = channels.execute(SLEEP)
    replies = channels.replies(request)
    assert any(reply["content"].get("text") == "on\n" for reply in replies)
    assert gateway.ask("POST", f"/api/kernels/{kernel}/interrupt") == (204, None)
    assert "KeyboardInterrupt" in [reply["content"].get("ename") for reply in replies]

    status, model = gateway.ask("GET", f"/api/kernels/{kernel}")
    assert (status, model["name"]) == (200, "remote")
    assert gateway.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
    assert gateway.ask("GET", f"/api/kernels/{kernel}")[0] == 404
    assert not kernels_on(rig.hosts[0])


def test_who_may_not_start_kernels(rig: Rig, gateway: Server) -> None:
    refused = {
        "bob": "user 'bob' (KERNEL_USERNAME) is not authorized to start kernels",
        "eve": "user 'eve' (KERNEL_USERNAME) is not among the users authorized to start kernels",
    }
    for user, message in refused.items():
        body = {"name": "remote", "env": {"KERNEL_USERNAME": user}}
        status, answer = gateway.ask("POST", "/api/kernels", body)
        assert (status, answer["message"], answer["reason"]) == (403, message, "UnauthorizedError")
    assert not [process for host in rig.hosts for process in host.processes()]
    gateway.start_kernel(env={"KERNEL_USERNAME": "alice"})


def test_requests_that_cannot_be_met(gateway: Server) -> None:
    refused: list[tuple[dict[str, str], int, str]] = [
        (
            {"KERNEL_REMOTE_HOST": "no-such-host.invalid"},
            503,
            "host no-such-host.invalid: the name does not resolve",
        ),
        ({"KERNEL_REMOTE_HOST": "a;b"}, 400, "cannot read the host 'a;b'"),
        (
            {"KERNEL_LAUNCH_TIMEOUT": "soon"},
            400,
            "KERNEL_LAUNCH_TIMEOUT is 'soon', must be a positive",
        ),
        ({"KERNEL_X": "a\0b"}, 400, "environment variable KERNEL_X contains a NUL character"),
    ]
    for env, status, message in refused:
        body = {"name": "remote", "env": {"KERNEL_USERNAME": "alice", **env}}
        answered, answer = gateway.ask("POST", "/api/kernels", body)
        assert (answered, answer["message"][: len(message)]) == (status, message)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_end_of_the_gateway_is_the_end_of_its_kernels(
    rig: Rig, gateway: Server, signum: int
) -> None:
    pins = [host.target for host in rig.hosts]
    for pin in pins:
        gateway.start_kernel(env={"KERNEL_USERNAME": "alice", "KERNEL_REMOTE_HOST": pin})
    assert spread_as(rig, [1, 1])
    gateway.end(signum)
    eventually(lambda: not [p for host in rig.hosts for p in host.processes()], 5)


def test_a_request_names_configured_hosts_only(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    first, second = (host.target for host in rig.hosts)
    install_spec()
    applications.configure("jupyter_kernel_gateway", remote_hosts=[first])
    gateway = applications.server("kernelgateway")
    for pin in ("localhost", second):
        body = {"name": "remote", "env": {"KERNEL_REMOTE_HOST": pin}}
        status, answer = gateway.ask("POST", "/api/kernels", body)
        text = f"KERNEL_REMOTE_HOST: {pin!r} is not one of the configured hosts ({first})"
        assert (status, answer["message"].splitlines()[0]) == (403, text)
    gateway.start_kernel(env={"KERNEL_REMOTE_HOST": first})
    # What the operator has set in the process's own environment is not a request's.
    gateway = applications.server("kernelgateway", KERNEL_REMOTE_HOST=second)
    kernel = gateway.start_kernel()
    assert gateway.run(kernel, WHERE).split()[0] == names_of(rig)[1]


RESTORING = (
    "c.KernelGatewayApp.kernel_manager_class = "
    "'remote_provisioners.server.kernel_gateway.RestoringKernelManager'\n"
)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_gateway_finds_its_kernels_again(
    rig: Rig, install_spec: InstallSpec, applications: Applications, end: int
) -> None:
    install_spec()
    target = rig.hosts[0].target
    left = end == signal.SIGTERM
    applications.configure(
        "jupyter_kernel_gateway", remote_hosts=[target], leave_kernels_running=left
    )
    config = applications.config / "jupyter_kernel_gateway_config.py"
    config.write_text(config.read_text() + RESTORING)
    options = ("--JupyterWebsocketPersonality.list_kernels=True",)
    gateway = applications.server("kernelgateway", *options)
    kernel = gateway.start_kernel(env={"KERNEL_X": "of the request"})
    assert gateway.run(kernel, "kept = 1") == ""
    gateway.process.send_signal(end)
    gateway.process.wait(20)
    again = applications.server("kernelgateway", *options)
    found = [model["id"] for model in again.ask("GET", "/api/kernels")[1]]
    if end == signal.SIGINT:  # it has ended them, and the next one knows
        assert found == []
        eventually(lambda: not kernels_on(rig.hosts[0]))
        return
    assert found == [kernel]
    assert again.run(kernel, "print(kept, os.environ['KERNEL_X'])") == "1 of the request\n" or (
        again.run(kernel, "import os; print(kept, os.environ['KERNEL_X'])") == "1 of the request\n"
    )
    assert again.ask("DELETE", f"/api/kernels/{kernel}") == (204, None)
    again.end()
    eventually(lambda: not [p for host in rig.hosts for p in host.processes()], 5)


def test_a_jupyter_server_as_the_gateway_of_another(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    """KERNEL_ variables of a client's request count, and its kernels are found again."""
    first, second = rig.hosts
    install_spec()
    applications.configure("jupyter_server", remote_hosts=[first.target, second.target])
    gateway = applications.server("server")
    env = {"KERNEL_REMOTE_HOST": second.target, "KERNEL_X": HOSTILE, "PATH": "/no/such"}
    kernel = gateway.start_kernel(env=env)
    assert gateway.run(kernel, WHERE).split()[0] == names_of(rig)[1]
    assert gateway.run(kernel, "print(ascii(os.environ['KERNEL_X']))") == f"{HOSTILE!a}\n"
    status, answer = gateway.ask(
        "POST", "/api/kernels", {"name": "remote", "env": {"KERNEL_REMOTE_HOST": "localhost"}}
    )
    assert (status, answer["reason"]) == (403, "UnauthorizedError")

    lab = applications.server(
        "server",
        f"--GatewayClient.url=http://{gateway.address}",
        KERNEL_REMOTE_HOST=second.target,
        JUPYTER_GATEWAY_AUTH_TOKEN=TOKEN,
    )
    body = {"path": "n.ipynb", "name": "n", "type": "notebook", "kernel": {"name": "remote"}}
    status, session = lab.ask("POST", "/api/sessions", body)
    assert status == 201, session
    through = session["kernel"]["id"]
    assert lab.run(through, f"kept = 1; {WHERE}").split()[0] == names_of(rig)[1]
    gateway.process.kill()
    gateway.process.wait()
    gateway = applications.server("server", port=gateway.port)
    assert gateway.run(through, "print(kept)") == "1\n"
    assert eventually(lambda: lab.run(through, "print(kept)")) == "1\n"
    assert lab.end() == 0
    assert gateway.end() == 0
