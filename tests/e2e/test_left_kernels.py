"""Kernels whose server is not there: whose they are, who sees them, how long they stay."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import remote_provisioners
from remote_provisioners.errors import NoRoomError

from ..conftest import InstallSpec, Start
from ..rig import Rig
from .applications import Applications, Server, eventually, kernels_on


@pytest.fixture(autouse=True)
def cleared(rig: Rig, home: Path) -> Iterator[None]:
    """What killed programs leave here and there is nobody's after the test."""
    yield
    for host in (host for host in rig.hosts if host.processes()):
        command = [sys.executable, "-m", "remote_provisioners.cli.app", "stop", "--all-unowned"]
        subprocess.run([*command, f"--host={host.target}"], check=False, capture_output=True)


def killed(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def ids(server: Server) -> set[str]:
    return {kernel["id"] for kernel in server.ask("GET", "/api/kernels")[1]}


def test_a_hubs_named_servers_get_their_own_kernels(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(rig.hosts[0].target)
    one, two = ({"JUPYTERHUB_SERVICE_PREFIX": f"/user/ann/{name}/"} for name in ("one", "two"))
    server = applications.server("server", **one)
    kernel = server.start_kernel()
    killed(server)
    other = applications.server("server", **two)
    assert ids(other) == set()
    assert "the hub's server /user/ann/one/ has ended and left 1 kernel on hosts" in other.output
    server = applications.server("server", **one)
    assert ids(server) == {kernel}
    assert server.run(kernel, "print(6 * 7)") == "42\n"
    assert other.end() == 0
    assert server.end() == 0


def test_a_server_of_another_data_directory_says_what_it_sees(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(rig.hosts[0].target)
    server = applications.server("server")
    kernel = server.start_kernel()
    killed(server)
    other = applications.server("server", JUPYTER_DATA_DIR=str(applications.directory / "other"))
    other.start_kernel()
    other.expect("1 of your kernels belong to no running server")
    server = applications.server("server")
    assert ids(server) == {kernel}
    other.end()
    server.end()


def test_kernels_on_hosts_that_only_a_request_named(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    first, second = (host.target for host in rig.hosts)
    install_spec(first, unlisted_pins=True)
    server = applications.server("server")
    kernel = server.start_kernel(env={"KERNEL_REMOTE_HOST": second})
    server.run(kernel, "print('to the log', file=__import__('sys').__stderr__)")
    killed(server)
    listing = applications.jupyter("remote", "kernels", "--json")
    assert listing.wait() == 0
    (found,) = json.loads(listing.output)["kernels"]
    assert (found["id"], found["host"], found["state"]) == (kernel, second, "left")
    assert applications.jupyter("remote", "logs", kernel).wait() == 0
    assert applications.jupyter("remote", "stop", kernel).wait() == 0
    eventually(lambda: not kernels_on(rig.hosts[1]))


CLIENT = """
import os, sys, time
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="remote")
manager.start_kernel()
# As multiprocessing does; it outlives a killed script.
worker = os.fork() if sys.argv[1:] == ["with a worker"] else 1
if worker:
    print("started beside", worker, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_kernel_of_a_killed_script_ends_soon(
    rig: Rig, install_spec: InstallSpec, applications: Applications, signum: int
) -> None:
    install_spec(rig.hosts[0].target, client_lease=1.0)
    script = applications.script(CLIENT, "with a worker")
    worker = int(script.expect(r"started beside (\d+)")[1])
    try:
        assert len(kernels_on(rig.hosts[0])) == 1
        script.process.send_signal(signum)
        script.process.wait()
        eventually(lambda: not kernels_on(rig.hosts[0]), 15)
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.long
def test_a_left_kernel_that_idles(
    rig: Rig, install_spec: InstallSpec, applications: Applications
) -> None:
    install_spec(rig.hosts[0].target, left_idle_timeout=2.0)
    server = applications.server("server")
    idle, busy = server.start_kernel(), server.start_kernel()
    channels = server.connect(busy)
    channels.execute("print('on', flush=True)\nwhile True: pass")
    while channels.receive()["content"].get("text") != "on\n":
        pass
    killed(server)
    eventually(lambda: len(kernels_on(rig.hosts[0])) == 1, 90)  # looked at every 20 s
    listing = applications.jupyter("remote", "kernels", f"--host={rig.hosts[0].target}")
    assert listing.wait() == 0
    (line,) = (line for line in listing.output.splitlines() if idle in line)
    assert "it was idle for 2 s without its server (left_idle_timeout)" in line
    assert applications.jupyter("remote", "stop", idle, busy).wait() == 0


NO_NAME = """
import os
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="remote")
client.execute_interactive("import os; print(6 * 7, os.getuid())")
client.stop_channels()
manager.shutdown_kernel()
"""


@pytest.mark.parametrize("policy", ["round-robin", "least-connection", "fill"])
def test_everybodys_kernels_fill_a_host(
    rig: Rig, install_spec: InstallSpec, applications: Applications, start: Start, policy: str
) -> None:
    host = {"host": rig.hosts[0].target, "capacity": 1}
    name = install_spec([host], load_balancing_algorithm=policy)
    script = applications.script(CLIENT)
    script.expect("started")
    with pytest.raises(NoRoomError, match="has 1 of 1 kernels"):
        start(name)
    script.process.kill()


def test_a_user_without_an_entry_in_the_user_database(install_spec: InstallSpec) -> None:
    """By the system's Python, which everybody may run, with the packages of this one."""
    uid, python = 54321, "/usr/bin/python3"
    packages = sysconfig.get_path("purelib")
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    ours = "{}.{}".format(*sys.version_info)
    found = subprocess.run([python, "-c", version], capture_output=True, text=True, check=False)
    if os.getuid() != 0 or found.stdout.strip() != ours:
        pytest.skip(f"needs root, and Python {ours} as {python}")
    install_spec("localhost", env={"PYTHONPATH": packages}, python=python)
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        shutil.copytree(os.environ["JUPYTER_PATH"], f"{home}/jupyter")
        source = Path(remote_provisioners.__file__).parent.parent
        done = subprocess.run(
            [
                "/bin/sh",
                "-c",
                f"chown -R {uid} {home}; exec setpriv --reuid {uid} --clear-groups "
                f"{python} -c '{NO_NAME}'",
            ],
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": home,
                "TMPDIR": home,
                "JUPYTER_PATH": f"{home}/jupyter",
                "PYTHONPATH": f"{packages}:{source}",
            },
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == f"42 {uid}\n", done.stderr
        eventually(lambda: not list(Path(home).glob("remote-provisioners-*/*/agent.sock")))
