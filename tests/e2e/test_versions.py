"""Two versions of ours on one host: an older release's agent and this server, and the other way
round. Kernels outlive an upgrade, and so do the agents that have started them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec, be_client, eventually
from ..rig import Host, Rig

RELEASED = Path(__file__).parents[1] / "released/remote_provisioners-0.1.0-py3-none-any.whl"

# A server process: one kernel, by the blocking manager, told what to do line by line.
SERVER = """
import json, os, sys, threading
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync
import remote_provisioners

manager = KernelManager(kernel_name="remote")

client = None

def open_client():
    global client
    if client is not None:
        client.stop_channels()
    client = manager.client()
    client.start_channels()
    client.kernel_info(reply=True, timeout=30)

def start(left=None):
    if left is None:
        manager.start_kernel()
    else:
        manager.start_kernel(kernel_id=left["kernel_id"], provisioner_info=left)
    open_client()
    return info()

def info():
    return run_sync(manager.provisioner.get_provisioner_info)()

def run(code):
    printed = []
    def hook(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])
        elif message["msg_type"] == "error":
            printed.append("".join(message["content"]["traceback"]))
    client.execute_interactive(code, timeout=30, output_hook=hook)
    return "".join(printed)

def begin(code):
    client.execute(code)

def restart():
    manager.restart_kernel(now=True)
    open_client()
    return info()

def life():
    found = manager.provisioner._kernel.life
    return [found.state.value, found.exit_code, found.reason]

def end():
    client.stop_channels()
    manager.shutdown_kernel(now=True)

def where():
    return os.path.dirname(remote_provisioners.__file__)

for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
        answer = {"result": globals()[name](*arguments)}
    except Exception as error:
        answer = {"error": type(error).__name__ + ": " + str(error)}
    print("=> " + json.dumps(answer), flush=True)
client.stop_channels()
"""


class ServerProcess:
    """A server of one of the versions. Its methods are the functions of SERVER."""

    def __init__(self, package: Path | None) -> None:
        path = [str(package)] if package is not None else []
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        )
        used = Path(self.where())
        assert (package in used.parents) if package is not None else RELEASED.parents[1] != used

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(json.dumps([name, arguments]) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith("=> "):
                    answer = json.loads(line[3:])
                    assert "error" not in answer, answer["error"]
                    return answer["result"]
            raise AssertionError("the server has ended")

        return call

    def leave(self) -> None:
        """End in order; the kernel stays."""
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


Serve = Callable[[str], ServerProcess]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server of the `old` version or of this one, `new`."""
    unpacked = tmp_path / "released"
    with zipfile.ZipFile(RELEASED) as wheel:
        wheel.extractall(unpacked)
    servers: list[ServerProcess] = []

    def started(version: str) -> ServerProcess:
        servers.append(ServerProcess(unpacked if version == "old" else None))
        return servers[-1]

    yield started
    for server in servers:
        if server.process.poll() is None:
            server.leave()


@pytest.fixture
def host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec) -> Host:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    install_spec(host.target, leave_kernels_running=True)
    return host


def agents(host: Host) -> dict[str, int]:
    """The agents that run on the host, by the names of their directories."""
    found = {}
    for process in host.processes():
        if any(word.endswith("agent.pyz") for word in process.argv):
            found[Path(process.argv[process.argv.index("-S") + 2]).name] = process.pid
    return found


def kernels(host: Host) -> set[int]:
    return {p.pid for p in host.processes() if "ipykernel_launcher" in p.argv}


def kill(host: Host, pid: int) -> None:
    host.run(["kill", "-KILL", str(pid)])
    eventually(lambda: pid not in agents(host).values())


COUNT = "import time\nfor n in range(100): print(n, flush=True); time.sleep(0.02)"
PAIRS = [("old", "new"), ("new", "old")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_start_stream_adopt_restart_leave(
    host: Host, serve: Serve, first: str, second: str
) -> None:
    one = serve(first)
    left = one.start()
    assert one.run("kept = 'kept'; print(6 * 7)") == "42\n"
    one.begin(COUNT)
    one.leave()
    assert kernels(host) == {left["pid"]}

    two = serve(second)
    adopted = two.start(left)
    assert adopted["pid"] == left["pid"]
    # One agent: the kernel stays with the one that has started it.
    assert list(agents(host)) == [Path(left["agent"]).name]
    assert two.run("print(kept)").endswith("kept\n")
    assert len(two.run("print('x' * 3_000_000)")) == 3_000_001
    again = two.restart()
    assert again["pid"] != left["pid"]
    assert kernels(host) == {again["pid"]}
    assert two.run("print('kept' in dir())") == "False\n"
    two.leave()

    three = serve(first)
    assert three.start(again)["pid"] == again["pid"]
    assert three.run("print(6 * 7)") == "42\n"
    three.end()
    three.leave()
    eventually(lambda: not host.processes())


def test_an_older_agent_is_killed_while_this_version_has_its_kernel(
    host: Host, serve: Serve
) -> None:
    one = serve("old")
    left = one.start()
    one.run("kept = 'kept'")
    one.leave()
    two = serve("new")
    two.start(left)
    (name,) = agents(host)
    kill(host, agents(host)[name])
    eventually(lambda: name in agents(host) and two.life()[0] == "running", 20)
    two.open_client()
    assert two.run("print(kept)") == "kept\n"
    assert two.restart()["pid"] != left["pid"]
    assert two.run("print(6 * 7)") == "42\n"
    two.end()


def test_this_agent_is_killed_while_an_older_version_has_its_kernel(
    host: Host, serve: Serve
) -> None:
    """The older server gives it up, as it always did; whoever comes next finds it."""
    one = serve("new")
    left = one.start()
    one.run("kept = 'kept'")
    one.leave()
    two = serve("old")
    two.start(left)
    (name,) = agents(host)
    kill(host, agents(host)[name])
    eventually(lambda: two.life()[0] == "lost", 20)
    two.leave()
    three = serve("new")
    assert three.start(left)["pid"] == left["pid"]
    assert three.run("print(kept)") == "kept\n"
    three.end()


def test_a_newer_agent_looks_after_the_kernels_of_an_older_one(host: Host, serve: Serve) -> None:
    """Killed before the newer one starts, and beside it."""
    one = serve("old")
    left = one.start()
    one.leave()
    (old,) = agents(host)
    kill(host, agents(host)[old])
    assert kernels(host) == {left["pid"]}
    two = serve("new")
    two.start()
    eventually(lambda: old in agents(host), 20)
    kill(host, agents(host)[old])
    assert left["pid"] in kernels(host)
    # Who lists kernels sees it, and can end it.
    listed = subprocess.run(
        [sys.executable, "-m", "remote_provisioners.cli.app", "kernels", "--json", host.target],
        capture_output=True,
        text=True,
        check=True,
    )
    assert left["kernel_id"] in [kernel["id"] for kernel in json.loads(listed.stdout)["kernels"]]
    three = serve("new")
    assert three.start(left)["pid"] == left["pid"]
    three.end()
    two.end()


def test_a_killed_agent_whose_files_are_gone(host: Host, serve: Serve) -> None:
    """The true reason, a restart that works, and a server that ends."""
    one = serve("old")
    left = one.start()
    one.leave()
    two = serve("new")
    two.start(left)
    (old,) = agents(host)
    pid = agents(host)[old]
    host.run(
        ["sh", "-c", f"kill -STOP {pid}; rm -r {left['agent']} /tmp/*.kernels; kill -KILL {pid}"]
    )
    eventually(lambda: two.life()[0] == "lost", 20)
    # That agent has never said which boot it runs in.
    assert two.life()[2] == (
        "nothing is left of it there: the host was rebooted, or its files removed"
    )
    host.run(["kill", "-KILL", "--", f"-{left['pid']}"])
    assert two.restart()["pid"] != left["pid"]
    assert two.run("print(6 * 7)") == "42\n"
    two.end()
    assert not kernels(host)
