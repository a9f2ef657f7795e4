"""``jupyter remote kernels``, ``attach``, ``stop``, ``logs``; leases that run out."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient

from ..conftest import InstallSpec, Session, Start, eventually
from ..rig import Process, Rig

COMMAND = [sys.executable, "-m", "remote_provisioners.cli.app"]
SECONDS = 60


@pytest.fixture(autouse=True)
def own_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path, install_spec: InstallSpec
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))


def remote(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )


def kernels(*words: str) -> dict[str, dict[str, Any]]:
    done = remote("kernels", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return {kernel["id"]: kernel for kernel in json.loads(done.stdout)["kernels"]}


LEAVER = """
import os, sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="remote")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=30)
client.execute_interactive(sys.argv[1])
print("\\n" + manager.kernel_id, flush=True)
os.kill(os.getpid(), 9)
"""


def left_kernel(code: str = "pass") -> str:
    """The id of a kernel whose process was killed."""
    process = subprocess.run(
        [sys.executable, "-c", LEAVER, code],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    return process.stdout.split()[-1]


@contextmanager
def attached(kernel_id: str) -> Iterator[Session]:
    """A client of the kernel by `jupyter remote attach`, which must end by Ctrl-C."""
    process = subprocess.Popen([*COMMAND, "attach", kernel_id], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"jupyter console --existing (.*)\n", line)
        assert found
        assert Path(found[1]).stat().st_mode & 0o777 == 0o600
        client = BlockingKernelClient(connection_file=found[1])
        client.load_connection_file()
        client.start_channels()
        client.kernel_info(reply=True, timeout=SECONDS)
        session = Session.__new__(Session)
        session.client = client
        yield session
        client.stop_channels()
        client.context.destroy()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        process.stdout.close()
    assert not Path(found[1]).exists()


def test_what_is_said_of_kernels(rig: Rig, install_spec: InstallSpec, start: Start) -> None:
    targets = [host.target for host in rig.hosts]
    install_spec(targets, lease=1000, client_lease=1000)
    used = start("remote")
    used.run("data = b'x' * 100_000_000")
    kept = left_kernel()
    found = kernels()
    assert {*found} == {used.manager.kernel_id, kept}
    mine, other = found[used.manager.kernel_id], found[kept]
    assert (mine["host"], mine["state"], mine["owned"]) == (used.host, "in use", True)
    assert mine["lease_left"] is None
    assert mine["pid"] == used.value("__import__('os').getpid()")
    assert 100_000_000 < mine["memory"] < 10**9
    assert 0 < mine["age"] < 100
    assert mine["idle"] < 100
    assert (other["state"], other["owned"], other["lease"]) == ("left", False, 1000)
    assert 900 < other["lease_left"] <= 1000

    table = remote("kernels").stdout.splitlines()
    assert table[0].split() == [
        "KERNEL",
        "HOST",
        "STATE",
        "AGE",
        "IDLE",
        "MEMORY",
        "PID",
        "LEASE",
        "LEFT",
        "NOTE",
    ]
    assert len(table) == 3
    done = remote("kernels", "127.0.0.1:1", used.host)
    assert done.returncode == 1
    assert "127.0.0.1:1: port 1 refuses connections" in done.stderr
    assert used.manager.kernel_id in done.stdout

    # Which one is meant.
    done = remote("logs", "nothing-like-it")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("jupyter remote logs: no kernel 'nothing-like-it' (found: ")
    assert kept in done.stderr
    done = remote("stop", "")
    assert done.returncode == 1
    assert "matches several kernels: " in done.stderr
    done = remote("stop", used.manager.kernel_id[:12])
    assert done.returncode == 1
    assert "in use by a running server" in done.stderr
    assert used.value("6 * 7") == 42

    done = remote("stop", kept[:12])
    assert (done.returncode, done.stderr) == (0, "")
    assert {*kernels()} == {used.manager.kernel_id}
    kept = left_kernel("import os; os.system('sleep 300 & echo noise')")
    done = remote("stop", "--all-unowned")
    assert (done.returncode, done.stdout.split()[0]) == (0, kept)
    assert {*kernels()} == {used.manager.kernel_id}
    assert used.value("6 * 7") == 42
    assert not [p for host in rig.hosts for p in host.processes() if p.argv[:1] == ("sleep",)]


def test_attach(rig: Rig, install_spec: InstallSpec, start: Start) -> None:
    install_spec([rig.hosts[0].target])
    used = start("remote")
    kept = left_kernel("kept = 'kept'; import os; os.write(1, b'to the process')")
    with attached(kept[:10]) as session:
        with attached(used.manager.kernel_id) as other:
            other.run("shared = 1")
            assert used.value("shared") == 1
        assert "to the process" in remote("logs", kept[:10]).stdout
        assert session.value("kept") == "kept"
        found = kernels()
        assert found[used.manager.kernel_id]["owned"]  # it is its server's as before
        assert found[kept]["lease_left"] is None  # it is renewed
    assert used.value("shared") == 1
    assert kernels()[kept]["lease_left"] > 0
    assert remote("stop", kept).returncode == 0


@pytest.mark.long
def test_a_lease_that_runs_out(rig: Rig, install_spec: InstallSpec, start: Start) -> None:
    host = rig.hosts[0]

    def sleepers() -> list[Process]:
        return [p for p in host.processes() if p.argv[:1] == ("sleep",)]

    install_spec([host.target], lease=6, client_lease=6)
    stubborn = (
        "import os, signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen(['sleep', '300'])"
    )
    with ThreadPoolExecutor() as both:
        polite, other = both.map(
            left_kernel, ["import subprocess; subprocess.Popen(['sleep', '300'])", stubborn]
        )
    found = eventually(lambda: not (k := kernels()[polite])["running"] and k, 30)
    assert (found["state"], found["exit_code"]) == ("ended, exit code -15", -15)
    assert found["ended_by"] == "its lease of 6 s ran out"
    assert "its lease of 6 s ran out" in remote("kernels").stdout
    eventually(lambda: not sleepers(), 40)
    eventually(lambda: kernels()[other]["exit_code"] == -9)
    logs = host.run(["sh", "-c", "cat /tmp/remote-provisioners-*/*/agent.log"])
    for kernel in (polite, other):
        assert re.search(rf"kernel {kernel} \(pid \d+, owner \w+\): its lease of 6 s ran", logs)
    remote("stop", "--all-unowned")  # what is left of them


def test_logs_are_followed_until_the_kernel_ends(
    rig: Rig, install_spec: InstallSpec, start: Start
) -> None:
    install_spec([rig.hosts[0].target])
    session = start("remote")
    session.run("import os; os.write(1, b'first\\n')")
    following = subprocess.Popen(
        [*COMMAND, "logs", "-f", session.manager.kernel_id], stdout=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    assert "first\n" in iter(following.stdout.readline, "")
    session.run("os.write(1, b'second\\n')")
    assert "second\n" in iter(following.stdout.readline, "")
    session.manager.shutdown_kernel(now=True)
    assert following.wait(SECONDS) == 0
    following.stdout.close()


def test_who_has_read_enough_of_a_table_gets_no_traceback(install_spec: InstallSpec) -> None:
    install_spec([f"node{number}.invalid" for number in range(3)])
    process = subprocess.Popen(
        [*COMMAND, "hosts", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(SECONDS) == 141
