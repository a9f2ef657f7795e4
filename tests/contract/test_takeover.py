"""`kill -9` of a real agent: its successor has the kernels, and signals nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.agent.bootstrap import find_or_start
from remote_provisioners.agent.processes.process_identity import start_time, stat_of
from remote_provisioners.errors import AgentError
from remote_provisioners.hosts import deploy_agent as bootstrap
from remote_provisioners.hosts.transport.local import LocalTransport
from remote_provisioners.protocol.wire import Message

from ..conftest import eventually, words
from .test_agent import SLEEPS, Refused, Server, agent_socket, connect, listens, run, servers

UNKNOWN = "its exit code is not known: the agent that had started it was killed"


async def kill(server: Server) -> None:
    """`kill -9` of the agent, as this server sees it."""
    os.kill(server.hello["pid"], signal.SIGKILL)
    await server.closed
    # Its listener may last a moment longer, and be taken for that of an agent that lives: as long
    # as one of its threads.
    tasks = Path("/proc/{}/task".format(server.hello["pid"]))
    eventually(lambda: not running(server.hello["pid"]))
    eventually(lambda: not tasks.exists() or len(list(tasks.iterdir())) <= 1)


def kernels(server: Server) -> dict[str, Message]:
    return {kernel["kernel_id"]: kernel for kernel in server.hello["kernels"]}


def running(pid: int) -> bool:
    found = stat_of(pid)
    return found is not None and not found.ended


def records(directory: Path) -> dict[str, Path]:
    found = directory.glob("remote-provisioners-*/*/k/*/record.json")
    return {json.loads(path.read_text())["kernel_id"]: path for path in found}


def log(directory: Path) -> str:
    (path,) = directory.glob("remote-provisioners-*/*/agent.log")
    return path.read_text()


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process of ours that is no kernel, and leads a session as one does."""
    process = subprocess.Popen(SLEEPS, start_new_session=True)
    yield process.pid
    process.kill()
    process.wait()


def test_running_kernels_are_taken_over(tmp_path: Path) -> None:
    told = tmp_path / "told"
    waits = ["sh", "-c", f'while [ ! -e {told} ]; do sleep 0.02; done; exec "$@"', "sh"]

    async def body() -> None:
        async with servers("a", "b") as (one, two):
            first = await one.start("k1", listens(0), cwd=["/usr"])
            await one.until(lambda: one.kernels("listening") == ["k1"])
            second = await one.start("k2", [*waits, sys.executable, *listens(0)[1:]])
            await two.start("k3", SLEEPS)
            await kill(one)
            async with servers("a", "b") as (again, other):
                assert again.hello["pid"] != one.hello["pid"]
                found = kernels(again)
                assert set(found) == {"k1", "k2"}
                assert set(kernels(other)) == {"k3"}
                for name in ("pid", "started", "cwd", "connection"):
                    assert found["k1"][name] == first[name]
                assert found["k1"]["listening"]
                # One that did not listen yet is told of when it does.
                assert not found["k2"]["listening"]
                told.touch()
                await again.until(lambda: again.kernels("listening") == ["k2"])
                await again.request("signal", kernel_id="k1", signum=signal.SIGTERM)
                await again.until(lambda: again.kernels("exited") == ["k1"])
                (event,) = again.events("exited")
                assert event["exit_code"] in (-signal.SIGTERM, -1)
                assert (UNKNOWN in event["tail"]) == (event["exit_code"] == -1)
                await again.request("forget", kernel_id="k2")
                assert not running(second["pid"])
                assert running(kernels(other)["k3"]["pid"])

    run(body())


def test_taken_over_twice() -> None:
    async def body() -> None:
        async with servers("a") as (one,):
            started = await one.start("k1", SLEEPS)
            await kill(one)
            async with servers("a") as (two,):
                await kill(two)
                async with servers("a") as (three,):
                    assert kernels(three)["k1"]["pid"] == started["pid"]
                    again = await three.start("k1", SLEEPS)  # ends the one before
                    assert not running(started["pid"])
                    assert running(again["pid"])

    run(body())


def test_what_a_kernel_leaves_behind_is_ended(tmp_path: Path) -> None:
    child, told = tmp_path / "child", tmp_path / "told"
    waits = f"while [ ! -e {told} ]; do sleep 0.02; done"
    text = f"sleep 300 >/dev/null 2>&1 & echo $! > {child}; {waits}"

    async def body() -> None:
        async with servers("a") as (one,):
            await one.start("k1", ["sh", "-c", text])
            eventually(lambda: child.exists() and child.read_text())
            await kill(one)
            async with servers("a") as (again,):
                pid = int(child.read_text())
                assert running(pid)
                told.touch()
                await again.until(lambda: again.kernels("exited"))
                eventually(lambda: not running(pid), 2)

    run(body())


def test_what_ended_without_an_agent_is_reported(clean_environment: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    # The output is elsewhere: the child is known by its environment.
    text = f"echo said; sleep 300 >/dev/null 2>&1 & echo $! > {child}; sleep 0.5; exit 7"

    async def body() -> None:
        async with servers("a") as (one,):
            argv, env = ["sh", "-c", text], {"KERNEL_ID": "k1"}
            pid = (await one.start("k1", argv, request_env=env))["pid"]
            eventually(lambda: child.exists() and child.read_text())
            await kill(one)
            eventually(lambda: not running(pid))
            async with servers("a") as (again,):
                found = kernels(again)["k1"]
                assert (found["exit_code"], found["tail"]) in [
                    (7, "said"),  # it was not reaped yet
                    (-1, f"said\n{UNKNOWN}"),
                ]
                eventually(lambda: not running(int(child.read_text())), 2)
                assert records(clean_environment)
                await again.request("forget", kernel_id="k1")
                assert not list(clean_environment.glob("*/*/k/*"))

    run(body())


def test_an_exit_code_that_was_known_is_kept() -> None:
    async def body() -> None:
        async with servers("a") as (one,):
            await one.start("k1", ["sh", "-c", "echo said; exit 7"])
            await one.until(lambda: one.kernels("exited"))
            await kill(one)
            async with servers("a") as (again,):
                found = kernels(again)["k1"]
                assert (found["exit_code"], found["tail"]) == (7, "said")

    run(body())


def test_a_number_that_is_used_again_is_not_signalled(
    clean_environment: Path, stranger: int
) -> None:
    async def body() -> None:
        async with servers("a") as (one,):
            pid = (await one.start("k1", SLEEPS))["pid"]
            await kill(one)
            os.killpg(pid, signal.SIGKILL)
            path = records(clean_environment)["k1"]
            path.write_text(json.dumps({**json.loads(path.read_text()), "pid": stranger}))
            async with servers("a") as (again,):
                found = kernels(again)["k1"]
                assert (found["exit_code"], found["tail"]) == (-1, UNKNOWN)
                answer = await again.request("signal", kernel_id="k1", signum=signal.SIGKILL)
                assert not answer["delivered"]
                await again.request("forget", kernel_id="k1")
        assert running(stranger)

    run(body())


def test_nothing_is_left_of_another_boot(clean_environment: Path, stranger: int) -> None:
    """Not even a process with the same number and start time."""

    async def body() -> None:
        async with servers("a") as (one,):
            pid = (await one.start("k1", SLEEPS))["pid"]
            await kill(one)
            os.killpg(pid, signal.SIGKILL)
            path = records(clean_environment)["k1"]
            changed = {"pid": stranger, "start_time": start_time(stranger), "boot_id": "earlier"}
            path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
            async with servers("a") as (again,):
                found = kernels(again)["k1"]
                assert (found["exit_code"], found["tail"]) == (-1, "the host was rebooted")
                await again.request("forget", kernel_id="k1")
        assert running(stranger)

    run(body())


def _edit(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def _symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


BAD = {
    "half-written": (lambda path: path.write_bytes(path.read_bytes()[:40]), "is not JSON"),
    "empty": (lambda path: path.write_bytes(b""), "is not JSON"),
    "no object": (lambda path: path.write_text("[1]"), "has no usable object"),
    "no pid": (_edit(pid=None), "has no usable pid"),
    "pid 1": (_edit(pid=1), "has no usable pid"),
    "pid -1": (_edit(pid=-1), "has no usable pid"),
    "wrong kind": (_edit(listening="yes"), "has no usable listening"),
    "of another kernel": (_edit(kernel_id="a good one"), "names another kernel, 'a good one'"),
    "readable to others": (lambda path: path.chmod(0o644), "is open to others (mode 644)"),
    "directory": (lambda path: path.parent.chmod(0o755), "is open to others (mode 755)"),
    "a link": (_symlink, "Too many levels of symbolic links"),
    "another user's": (lambda path: os.chown(path, 12345, 0), "belongs to uid 12345"),
    "missing": (lambda path: path.unlink(), "its start was not over"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_record_that_cannot_be_used(clean_environment: Path, name: str) -> None:
    """It is refused in one line, what it stood for is ended, and the others are taken over."""
    spoil, said = BAD[name]
    if name == "another user's" and os.getuid() != 0:
        pytest.skip("only root can give a file away")

    async def body() -> None:
        async with servers("a") as (one,):
            bad = (await one.start("bad", SLEEPS))["pid"]
            good = (await one.start("a good one", SLEEPS))["pid"]
            await kill(one)
            path = records(clean_environment)["bad"]
            spoil(path)
            async with servers("a") as (again,):
                assert {k: v["pid"] for k, v in kernels(again).items()} == {"a good one": good}
                eventually(lambda: not running(bad), 2)
                assert running(good)
                lines = [line for line in log(clean_environment).splitlines() if said in line]
                assert len(lines) == 1
                assert str(bad) in lines[0]
                assert not path.parent.exists()
                assert (await again.start("bad", SLEEPS))["pid"]

    run(body())


def test_an_agent_of_another_host_is_not_started_again(tmp_path: Path) -> None:
    """Hosts may share the parent directory. The name of an agent's directory names the host."""
    base = tmp_path / "remote-provisioners-0"
    base.mkdir(0o700)
    former = base / "0123456789ab-00000000"
    former.mkdir(0o700)
    (former / "agent.pyz").write_text("raise SystemExit('it was started')")
    host, _ = find_or_start.host_identity()
    with pytest.raises(find_or_start.GoneError, match="it is of another host"):
        find_or_start.find_or_start("", b"", str(former), host)
    assert not (former / "agent.log").exists()


def test_two_records_of_one_kernel(clean_environment: Path) -> None:
    """As after an end of the agent at the worst moment: one is taken over, the other ended."""

    async def body() -> None:
        async with servers("a") as (one,):
            pids = [(await one.start(name, SLEEPS))["pid"] for name in ("k1", "k2")]
            await kill(one)
            path = records(clean_environment)["k2"]
            _edit(kernel_id="k1")(path)
            path.parent.rename(path.parent.with_name("w1234"))
            async with servers("a") as (again,):
                assert kernels(again)["k1"]["pid"] == pids[0]
                assert "w1234 names the kernel of " in log(clean_environment)
                assert len(list(clean_environment.glob("*/*/k/*"))) == 1
                eventually(lambda: not running(pids[1]), 2)

    run(body())


def test_killed_while_a_kernel_starts(clean_environment: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def body() -> None:
        async with servers("a") as (one,):
            hook = f"touch {tmp_path}/hooked; sleep 0.5"
            task = one.begin("k1", ["touch", str(ran)], hook=hook)
            await one.until((tmp_path / "hooked").exists)
            await kill(one)
            with contextlib.suppress(asyncio.CancelledError):
                await task
            async with servers("a") as (again,):
                assert not kernels(again)
                assert (await again.start("k1", SLEEPS))["pid"]
                await asyncio.sleep(0.6)
                assert not ran.exists()

    run(body())


def test_servers_that_come_at_once_find_one_agent() -> None:
    async def body() -> None:
        async with servers("a") as (one,):
            started = [await one.start(f"k{number}", SLEEPS) for number in range(2)]
            await kill(one)
            paths = await asyncio.gather(*(agent_socket() for _ in range(5)))
            assert len(set(paths)) == 1
            async with servers("a", "b", "c", path=paths[0]) as found:
                assert len({server.hello["pid"] for server in found}) == 1
                pids = [kernel["pid"] for kernel in found[0].hello["kernels"]]
                assert sorted(pids) == sorted(kernel["pid"] for kernel in started)

    run(body())


def test_ports_and_gpus_stay_its_own(clean_environment: Path) -> None:
    gpus = {"count": 1, "devices": ["here-0", "here-1"]}

    async def body() -> None:
        async with servers("a") as (one,):
            await one.start("k1", SLEEPS, connection={"transport": "tcp"}, gpus=gpus)
            before = await one.start("k2", SLEEPS, connection={"transport": "tcp"}, gpus=gpus)
            await kill(one)
            async with servers("a") as (again,):
                assert kernels(again)["k2"]["gpus"] == before["gpus"] == ["here-1"]
                port = before["connection"]["shell_port"]
                with socket.socket() as probe, pytest.raises(OSError, match="in use"):
                    probe.bind(("127.0.0.1", port))
                with pytest.raises(Refused, match="no-gpus"):
                    await again.start("k3", SLEEPS, gpus=gpus)
                await again.request("forget", kernel_id="k1")
                after = await again.start("k2", SLEEPS, connection={"transport": "tcp"}, gpus=gpus)
                assert after["gpus"] == ["here-1"]
                assert after["connection"]["shell_port"] == port
                assert not running(before["pid"])

    run(body())


def test_its_lease_begins_anew_and_idle_agents_end(clean_environment: Path) -> None:
    """A kernel that nobody asks for is still in somebody's care."""

    async def body() -> None:
        async with servers("a") as (one,):
            pid = (await one.start("k1", SLEEPS))["pid"]
            await kill(one)
            path = (
                await bootstrap.find_or_start_agent(LocalTransport(), sys.executable, "here")
            ).socket
            looker = await connect(path, "b")
            (status,) = (await looker.request("status"))["kernels"]
            assert (status["pid"], status["owner"], status["owned"]) == (pid, "a", False)
            adopted = await looker.request("adopt", kernel_id="k1")
            assert adopted["pid"] == pid
            await kill(looker)
            async with servers("b") as (again,):  # whose it is, is kept as well
                assert kernels(again)["k1"]["pid"] == pid
        deadline = time.monotonic() + 5
        while running(pid) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert not running(pid)

    run(body())


def test_a_failed_start_removes_nothing(clean_environment: Path) -> None:
    """Whatever it fails for: here something is in the way of the agent's socket."""

    async def body() -> None:
        async with servers("a") as (one,):
            pid = (await one.start("k1", SLEEPS))["pid"]
            await kill(one)
            in_the_way = Path(one.hello["directory"], "agent.sock")
            in_the_way.unlink()
            in_the_way.mkdir()
            with pytest.raises(AgentError, match=words(r"cannot start the agent: .*agent\.sock")):
                await agent_socket()
            assert running(pid)
            assert records(clean_environment)
            in_the_way.rmdir()
            async with servers("a") as (again,):
                assert kernels(again)["k1"]["pid"] == pid
                await again.request("forget", kernel_id="k1")

    run(body())
