"""A real agent and real processes: the start queue, GPUs, the load, what the agent reports."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remote_provisioners.agent.bootstrap import find_or_start
from remote_provisioners.agent.kernels.resource_store import KEPT
from remote_provisioners.agent.processes.process_identity import start_time
from remote_provisioners.hosts import deploy_agent as bootstrap
from remote_provisioners.hosts.transport.local import LocalTransport
from remote_provisioners.kernels.start.resource_upload import ResourceArchive
from remote_provisioners.protocol.wire import Decoder, Message, encode

from ..conftest import eventually

SLEEPS = ["sleep", "300"]
#: Listens after as many seconds as it is told, and notes when it began and when it listened.
LISTENS = """
import json, os, socket, sys, time
path, seconds, notes = sys.argv[1], float(sys.argv[2]), sys.argv[3]
began = time.monotonic()
time.sleep(seconds)
with open(notes, "a") as file:
    file.write(json.dumps([began, time.monotonic()]) + "\\n")
ip, sockets = json.load(open(path))["ip"], []
for number in range(1, 6):
    sockets.append(socket.socket(socket.AF_UNIX))
    sockets[-1].bind("%s-%d" % (ip, number))
    sockets[-1].listen(1)
time.sleep(300)
"""


def listens(seconds: float, notes: object = "/dev/null") -> list[str]:
    return ["python", "-c", LISTENS, "{connection_file}", str(seconds), str(notes)]


def after(signal: Path, argv: list[str]) -> list[str]:
    """The same program, once the file `signal` exists."""
    wait = f'while ! [ -e "$0" ]; do sleep 0.02; done; exec {sys.executable} "$@"'
    return ["sh", "-c", wait, str(signal), *argv[1:]]


class Refused(Exception):
    """The agent answers with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")


class Server(asyncio.Protocol):
    """A server process, as the agent sees it. `said` is all that the agent sent, in its order."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.hello: Message = {}
        self.closed = asyncio.get_running_loop().create_future()
        self._decoder = Decoder()
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._asked: dict[int, str] = {}
        self.tasks: set[asyncio.Task[Message]] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.cancel()
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if "event" not in message:
                answer = self._answers.pop(message["id"])
                message["asked"] = self._asked[message["id"]]
                if answer.done():
                    pass  # nobody waits for it any more
                elif "error" in message:
                    answer.set_exception(Refused(**message["error"]))
                else:
                    answer.set_result(message["result"])
            self.said.append(message)

    async def request(self, op: str, **fields: Any) -> Message:
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._asked[number] = f"{op} {fields.get('kernel_id', '')}".strip()
        self.transport.write(encode({"id": number, "op": op, **fields}))
        return await self._answers[number]

    async def start(self, kernel_id: str, argv: list[str], **fields: Any) -> Message:
        request = {
            "substitutions": {},
            "env": {},
            "request_env": {},
            "cwd": [],
            "hook": "",
            "python": sys.executable,
            "connection": {"transport": "ipc"},
            "port_range": [0, 0],
            "resources": "",
            "reports_endpoints": False,
        }
        return await self.request("start", kernel_id=kernel_id, argv=argv, **{**request, **fields})

    def begin(self, kernel_id: str, argv: list[str], **fields: Any) -> asyncio.Task[Message]:
        """Start it without waiting for the answer."""
        task = asyncio.ensure_future(self.start(kernel_id, argv, **fields))
        self.tasks.add(task)
        return task

    def events(self, name: str) -> list[Message]:
        return [message for message in self.said if message.get("event") == name]

    def kernels(self, event: str) -> list[str]:
        return [message["kernel_id"] for message in self.events(event)]

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"not in time; the agent said {self.said}"
            await asyncio.sleep(0.005)

    async def until_load(self, **expected: int) -> None:
        """Until the agent reports this load. Agents learn of each other by files."""
        deadline = time.monotonic() + 20
        while (load := await self.request("load")) != {**load, **expected}:
            assert time.monotonic() < deadline, f"not in time: {load}"
            await asyncio.sleep(0.02)

    async def disconnect(self) -> None:
        self.transport.close()
        await self.closed


async def agent_socket(expected: str = "") -> str:
    """A connection to this user's agent here. If no agent runs, one is started for this kernel."""
    found = await bootstrap.find_or_start_agent(
        LocalTransport(), sys.executable, "here", expected=expected
    )
    return found.socket


async def connect(path: str, owner: str) -> Server:
    server = Server()
    await asyncio.get_running_loop().create_unix_connection(lambda: server, path)
    try:
        server.hello = await server.request("hello", owner=owner)
    except asyncio.CancelledError:
        if server.closed.done():
            raise ConnectionResetError("the agent has ended") from None
        raise
    return server


@contextlib.asynccontextmanager
async def servers(*owners: str, path: str = "") -> AsyncIterator[list[Server]]:
    """Servers connected to this user's agent; they leave in the end, and the agent with them."""
    path = path or await agent_socket()
    connected = [await connect(path, owner) for owner in owners]
    try:
        yield connected
    finally:
        for server in connected:
            if not server.closed.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await server.request("leave")
                await server.disconnect()
            await asyncio.gather(*server.tasks, return_exceptions=True)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 60))


@pytest.fixture
def two_cores() -> Iterator[None]:
    """The agent that is started now may use two cores at most: two kernels start at a time."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:2]))
    yield
    os.sched_setaffinity(0, before)


# -- its files -------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="needs systemd-tmpfiles")
def test_a_host_that_removes_old_files(tmp_path: Path) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            await server.start("k1", SLEEPS)
            directory = Path(server.hello["directory"])
            (directory.parent / "old").touch()
            before = sorted(directory.rglob("*"))
            rules = tmp_path / "rules.conf"
            rules.write_text(f"d {directory.parent} - - - 0\n")
            subprocess.run(["systemd-tmpfiles", "--clean", rules], check=True)
            assert not (directory.parent / "old").exists()
            assert sorted(directory.rglob("*")) == before

    run(body())


# -- the start queue -----------------------------------------------------------------------


def test_never_more_than_the_limit_are_starting(two_cores: None, tmp_path: Path) -> None:
    notes, all_asked = tmp_path / "notes", tmp_path / "all asked"
    names = [f"k{number}" for number in range(12)]

    async def body() -> None:
        async with servers("a") as (server,):
            for name in names:
                server.begin(name, after(all_asked, listens(0.05, notes)))
            await server.until(lambda: len(server.kernels("queued")) == 10)
            all_asked.touch()
            await server.until(lambda: len(server.kernels("listening")) == 12)
            assert server.kernels("queued") == names[2:]
            starting, most = 0, 0
            for message in server.said:
                starting += message.get("asked", "").startswith("start")
                starting -= message.get("event") == "listening"
                most = max(most, starting)
            assert most == 2

    run(body())
    spans = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(spans) == 12
    for began, _ in spans:  # as the kernels themselves saw it
        assert sum(other[0] <= began < other[1] for other in spans) <= 2


def test_queued_is_told_at_once(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            await asyncio.gather(server.start("k1", SLEEPS), server.start("k2", SLEEPS))
            server.begin("k3", SLEEPS)
            await server.until(lambda: server.kernels("queued") == ["k3"])
            status = await server.request("status")
            assert [k["pid"] is None for k in status["kernels"]] == [False, False, True]

    run(body())


def test_two_servers_take_turns(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a", "b") as (first, second):
            many = [first.begin(f"a{number}", listens(0.3)) for number in range(8)]
            await first.until(lambda: len(first.kernels("queued")) == 6)
            few = [second.begin(f"b{number}", listens(0.3)) for number in range(2)]
            theirs = [task["started"] for task in await asyncio.gather(*many)]
            ours = [task["started"] for task in await asyncio.gather(*few)]
            # a0 and a1 start at once, and then: a2 b0 a3 b1 a4 ... Two that have their turn at the
            # same moment may start in either order.
            assert all(one < other for one, other in zip(theirs, theirs[2:], strict=False))
            before = [sum(other < one for other in theirs) for one in ours]
            assert before in ([2, 3], [2, 4], [3, 3], [3, 4])

    run(body())


@pytest.mark.parametrize("argv", [["true"], ["no-such-program"]])
def test_what_ends_at_once_keeps_no_slot(two_cores: None, argv: list[str]) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            tasks = [server.begin(f"k{number}", argv) for number in range(8)]
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await server.start("last", SLEEPS))["pid"]

    run(body())


def test_killed_while_it_starts(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            await asyncio.gather(server.start("k1", SLEEPS), server.start("k2", SLEEPS))
            third = server.begin("k3", SLEEPS)
            await server.until(lambda: server.kernels("queued"))
            await server.request("signal", kernel_id="k1", signum=signal.SIGKILL)
            assert (await third)["pid"]
            assert server.kernels("exited") == ["k1"]

    run(body())


def test_forgotten_while_it_starts_and_while_it_waits(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            await asyncio.gather(server.start("k1", SLEEPS), server.start("k2", SLEEPS))
            waiting = [server.begin(f"k{number}", SLEEPS) for number in (3, 4)]
            await server.until(lambda: len(server.kernels("queued")) == 2)
            await server.request("forget", kernel_id="k3")
            with pytest.raises(Refused, match="cancelled"):
                await waiting[0]
            await server.request("forget", kernel_id="k1")
            assert (await waiting[1])["pid"]
            await server.request("forget", kernel_id="k2")
            assert (await server.start("k5", SLEEPS))["pid"]

    run(body())


def test_forgotten_while_its_hook_runs(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            hooked = [server.begin(f"k{number}", SLEEPS, hook="sleep 3") for number in (1, 2)]
            third = server.begin("k3", SLEEPS)
            await server.until(lambda: server.kernels("queued"))
            began = time.monotonic()
            await server.request("forget", kernel_id="k1")
            assert (await third)["pid"]
            assert time.monotonic() - began < 2
            with pytest.raises(Refused, match="cancelled"):
                await hooked[0]
            assert (await hooked[1])["pid"]

    run(body())


def test_processes_that_are_stuck_hold_up_nobody() -> None:
    """As on a dead NFS: SIGKILL has no effect before they get out of there."""
    group = Path("/sys/fs/cgroup/freezer", f"rp-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs root and the freezer of control groups, version 1")
    state = group / "freezer.state"
    pids: list[int] = []

    async def body() -> None:
        async with servers("a", "b") as (server, other):
            for number in range(10):
                pids.append((await server.start(f"k{number}", listens(0)))["pid"])
                (group / "cgroup.procs").write_text(str(pids[-1]))
            await server.until(lambda: len(server.kernels("listening")) == 10)
            state.write_text("FROZEN")
            forgotten = [
                asyncio.ensure_future(server.request("forget", kernel_id=f"k{number}"))
                for number in range(10)
            ]
            longest = 0.0
            while not all(task.done() for task in forgotten):
                began = time.monotonic()
                await other.request("tail", kernel_id="none")
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.002)
            assert longest < 0.25  # it would be 5 s; the bound is for a busy machine
            # Started again while the earlier process is still there.
            again = await server.start("k1", listens(0))
            await server.until(lambda: server.kernels("listening")[10:] == ["k1"])
            assert again["pid"] not in pids
            state.write_text("THAWED")
            await server.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))

    try:
        run(body())
    finally:
        state.write_text("THAWED")
        deadline = time.monotonic() + 10
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)


def test_started_again_while_it_waits_or_its_hook_runs(two_cores: None, tmp_path: Path) -> None:
    """The files belong to the later start, whatever becomes of the earlier one."""

    async def body() -> None:
        async with servers("a") as (server,):
            for number in range(2):
                hooked = tmp_path / f"hooked {number}"
                hook = f"touch '{hooked}'; sleep 0.3; export A={number}"
                first = server.begin("k1", listens(0), hook=hook)
                await server.until(hooked.exists)
                if number:
                    await server.request("forget", kernel_id="k1")
                again = server.begin("k1", listens(0.5))
                with pytest.raises(Refused, match="cancelled"):
                    await first
                assert (await again)["pid"]
                await server.until(
                    lambda wanted=number + 1: len(server.events("listening")) == wanted
                )
            await asyncio.gather(server.start("k2", SLEEPS), server.start("k3", SLEEPS))
            first = server.begin("k4", SLEEPS)
            await server.until(lambda: server.kernels("queued"))
            again = server.begin("k4", SLEEPS)
            with pytest.raises(Refused, match="cancelled"):
                await first
            await server.request("forget", kernel_id="k2")
            assert (await again)["pid"]

    run(body())


def test_who_disconnects_is_dropped_from_the_queue(two_cores: None, tmp_path: Path) -> None:
    async def body() -> None:
        async with servers("a", "b") as (first, second):
            await asyncio.gather(first.start("k1", SLEEPS), first.start("k2", SLEEPS))
            for number in (3, 4):
                second.begin(f"k{number}", ["touch", str(tmp_path / "started")])
            await second.until(lambda: len(second.kernels("queued")) == 2)
            await second.disconnect()
            last = first.begin("k5", SLEEPS)
            await first.until(lambda: first.kernels("queued"))
            await first.request("forget", kernel_id="k1")
            assert (await last)["pid"]
            await first.request("forget", kernel_id="k2")
            held = (await first.request("status"))["kernels"]
            assert [kernel["kernel_id"] for kernel in held] == ["k5"]

    run(body())
    assert not list(tmp_path.iterdir())


def test_what_never_listens_keeps_no_slot_of_a_server_that_is_gone(two_cores: None) -> None:
    """Nobody is left to give those kernels up."""

    async def body() -> None:
        async with servers("a", "b") as (first, second):
            path = first.hello["directory"] + "/agent.sock"
            for name in ("k1", "k2"):
                await second.start(name, SLEEPS, reports_endpoints=True)
            waiting = first.begin("k3", SLEEPS)
            await first.until(lambda: first.kernels("queued"))
            await second.disconnect()
            assert (await waiting)["pid"]
            async with servers("b", path=path) as (again,):
                assert {k["kernel_id"] for k in again.hello["kernels"]} == {"k1", "k2"}

    run(body())


def test_a_launchers_kernel_starts_until_the_server_says_otherwise(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            for name in ("k1", "k2"):
                await server.start(name, SLEEPS, reports_endpoints=True)
            third = server.begin("k3", SLEEPS)
            await server.until(lambda: server.kernels("queued"))
            await asyncio.sleep(0.2)
            assert not third.done()
            assert await server.request("listening", kernel_id="k1") == {}
            assert (await third)["pid"]
            status = await server.request("status")
            assert [k["listening"] for k in status["kernels"]] == [True, False, False]
            assert await server.request("listening", kernel_id="nobody's") == {}

    run(body())


# -- GPUs ----------------------------------------------------------------------------------

TELLS = ["sh", "-c", 'echo "<${CUDA_VISIBLE_DEVICES-unset}>"; exec sleep 300']


@pytest.fixture
def gpus(clean_environment: Path) -> Callable[..., dict[str, Any]]:
    """The request for some of two GPUs."""
    return lambda count, devices=("0", "2"): {"gpus": {"count": count, "devices": devices}}


async def visible(server: Server, **fields: Any) -> str:
    """What a kernel's CUDA_VISIBLE_DEVICES is."""
    await server.start("tells", TELLS, **fields)
    while True:
        tail = (await server.request("tail", kernel_id="tells"))["tail"]
        if tail:
            await server.request("forget", kernel_id="tells")
            return str(tail).strip("<>")
        await asyncio.sleep(0.01)


def test_no_gpu_twice_and_free_when_its_kernel_has_ended(gpus: Callable[..., Any]) -> None:
    async def body() -> None:
        async with servers("a", "b") as (first, second):
            started = await first.start("k1", SLEEPS, **gpus(1))
            assert started["gpus"] == ["0"]
            one = started["pid"]
            assert (await second.start("k2", SLEEPS, **gpus(1)))["gpus"] == ["2"]
            with pytest.raises(
                Refused,
                match=rf"^no-gpus: 1 GPU wanted, 0 of 2 free; held: 0 by pid {one} of \w+, 2 .*$",
            ):
                await first.start("k3", SLEEPS, **gpus(1))
            load = await first.request("load")
            assert (load["gpus_taken"], load["kernels"]) == (["0", "2"], 2)
            await second.request("signal", kernel_id="k2", signum=signal.SIGTERM)
            await second.until(lambda: second.kernels("exited"))
            assert second.events("exited")[0]["gpus"] == []
            with pytest.raises(
                Refused,
                match=rf"^no-gpus: 2 GPUs wanted, 1 of 2 free; held: 0 by pid {one} of .*$",
            ):
                await first.start("k3", SLEEPS, **gpus(2))
            assert (await first.start("k3", SLEEPS, **gpus(1)))["gpus"] == ["2"]
            for name in ("k1", "k3"):
                await first.request("forget", kernel_id=name)
            assert (await first.start("k4", SLEEPS, **gpus(2)))["gpus"] == ["0", "2"]

    run(body())


def test_free_when_its_kernel_is_killed(gpus: Callable[..., Any]) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            started = await server.start("k1", ["sh", "-c", "sleep 300 & wait"], **gpus(2))
            os.kill(started["pid"], signal.SIGKILL)
            await server.until(lambda: server.kernels("exited"))
            await server.until(
                lambda: [e["gpus_taken"] for e in server.events("load")][-1:] == [[]]
            )
            assert (await server.start("k2", SLEEPS, **gpus(2)))["gpus"] == ["0", "2"]

    run(body())


def test_taken_while_its_kernel_waits_for_its_turn(
    gpus: Callable[..., Any], two_cores: None
) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            await asyncio.gather(server.start("k1", SLEEPS), server.start("k2", SLEEPS))
            for name in ("k3", "k4"):
                server.begin(name, SLEEPS, **gpus(1))
            await server.until(lambda: len(server.kernels("queued")) == 2)
            with pytest.raises(Refused, match="no-gpus"):  # at once
                await server.start("k5", SLEEPS, **gpus(1))
            await server.request("forget", kernel_id="k3")
            server.begin("k5", SLEEPS, **gpus(1))
            await server.until(lambda: server.kernels("queued")[2:] == ["k5"])

    run(body())


def test_started_again_it_has_the_same(gpus: Callable[..., Any]) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            await server.start("k1", SLEEPS, **gpus(1))
            assert (await server.start("k2", SLEEPS, **gpus(1)))["gpus"] == ["2"]
            await server.request("forget", kernel_id="k1")
            # While it runs, and after its end.
            argv = ["sh", "-c", "for i in 1 2 3 4 5; do sleep 300 & done; wait"]
            for _ in range(5):
                assert (await server.start("k2", argv, **gpus(1)))["gpus"] == ["2"]
            await server.request("signal", kernel_id="k2", signum=signal.SIGKILL)
            await server.until(lambda: server.kernels("exited"))
            assert (await server.start("k2", argv, **gpus(1)))["gpus"] == ["2"]

    run(body())


def test_a_start_that_fails_holds_no_gpu(gpus: Callable[..., Any], tmp_path: Path) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            with pytest.raises(Refused, match="no-program"):
                await server.start("k1", ["no-such-program"], **gpus(2))
            program = tmp_path / "program"
            program.write_text("#!/no/such/interpreter\n")
            program.chmod(0o700)
            with pytest.raises(Refused, match="cannot-start"):
                await server.start("k1", [str(program)], **gpus(2))
            assert (await server.start("k1", SLEEPS, **gpus(2)))["gpus"] == ["0", "2"]

    run(body())


def test_held_by_the_kernel_when_the_agent_is_killed(
    gpus: Callable[..., Any], clean_environment: Path
) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            kernel = (await server.start("k1", SLEEPS, **gpus(1)))["pid"]
            await server.until(lambda: list(clean_environment.glob("*.kernels")))
            os.kill(server.hello["pid"], signal.SIGKILL)
            await server.closed
        try:
            async with servers("a") as (server,):
                assert server.hello["load"]["gpus_taken"] == ["0"]
                with pytest.raises(Refused, match="1 of 2 free"):
                    await server.start("k2", SLEEPS, **gpus(2))
                assert (await server.start("k2", SLEEPS, **gpus(1)))["gpus"] == ["2"]
                os.killpg(kernel, signal.SIGKILL)
                assert (await server.start("k3", SLEEPS, **gpus(1)))["gpus"] == ["0"]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(kernel, signal.SIGKILL)

    run(body())


def test_what_kernels_see(gpus: Callable[..., Any]) -> None:
    async def body() -> None:
        async with servers("a") as (server,):
            own = {"env": {"CUDA_VISIBLE_DEVICES": "7"}}
            requests = (gpus(2), {**gpus(1), **own}, {**gpus(0), **own}, own, gpus(0), {})
            seen = [await visible(server, **fields) for fields in requests]
            assert seen == ["0,2", "0", "7", "7", "", "unset"]

    run(body())


# -- load ----------------------------------------------------------------------------------


def another_agent(python: str, directory: Path, **user: Any) -> str:
    """The socket of an agent of another version."""
    text, archive = Path(find_or_start.__file__).read_bytes(), bootstrap.agent_archive()
    header = bootstrap.request("f" * 64, len(archive))
    done = subprocess.run(
        [python, "-I", "-S", "-c", f"import sys;exec(sys.stdin.buffer.read({len(text)}))"],
        input=text + header + archive,
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(directory), "HOME": "/", "PATH": os.environ["PATH"]},
        cwd="/",
        check=True,
        **user,
    )
    line = done.stdout.decode()
    assert line.startswith(bootstrap.MARKER)
    return str(ast.literal_eval(line[len(bootstrap.MARKER) :])["socket"])


def test_kernels_of_two_agents(clean_environment: Path) -> None:
    async def body() -> None:
        other = another_agent(sys.executable, clean_environment)
        async with servers("a") as (first,), servers("b", path=other) as (second,):
            assert first.hello["load"]["cores"] >= 1
            await first.start("k1", SLEEPS)
            await second.start("k2", SLEEPS)
            await second.start("k3", SLEEPS)
            await second.until(lambda: [e["kernels"] for e in second.events("load")][-1:] == [3])
            await first.until_load(kernels=3, mine=1)
            await second.until_load(kernels=3, mine=2)
            await second.request("forget", kernel_id="k2")
            await second.until(lambda: second.events("load")[-1]["mine"] == 1)
            await first.until_load(kernels=2, mine=1)
            os.kill(second.hello["pid"], signal.SIGKILL)
            await second.closed
            await first.until_load(kernels=1, mine=1)  # the other's file is stale
            async with servers("b", path=another_agent(sys.executable, clean_environment)) as (
                successor,
            ):
                await successor.until(lambda: len(list(clean_environment.glob("*.kernels"))) == 1)
                await successor.until_load(kernels=2, mine=1)  # k3 is taken over

    run(body())


STRANGER = """
import json, socket, struct, sys
agent = socket.socket(socket.AF_UNIX)
agent.connect(sys.argv[1])
def ask(**message):
    body = json.dumps({"id": 1, **message}).encode()
    agent.sendall(struct.pack(">I", len(body)) + body)
    while True:
        (length,) = struct.unpack(">I", agent.recv(4, socket.MSG_WAITALL))
        answer = json.loads(agent.recv(length, socket.MSG_WAITALL))
        if "id" in answer:
            return answer
ask(op="hello", owner="stranger")
for line in sys.stdin:
    print(json.dumps(ask(**json.loads(line))), flush=True)
ask(op="leave")
"""


def start_request(kernel_id: str, argv: list[str]) -> Message:
    """What a stranger asks for."""
    connection = {"transport": "ipc"}
    return {"op": "start", "kernel_id": kernel_id, "argv": argv, "connection": connection}


needs_another_user = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("python3", path="/usr/bin:/bin"),
    reason="becomes another user, who needs a Python of the system",
)
ANOTHER: dict[str, Any] = {"user": 20001, "group": 20001, "extra_groups": []}

#: Makes a file with a text, locks it, and stays.
TAMPERS = """
import fcntl, sys, time
with open(sys.argv[1], "w") as file:
    file.write(sys.argv[2])
for path in sys.argv[1:2] + sys.argv[3:]:
    held = open(path)
    fcntl.flock(held, fcntl.LOCK_EX)
print("done", flush=True)
time.sleep(300)
"""


@needs_another_user
def test_nobody_keeps_a_gpu_without_a_kernel(
    gpus: Callable[..., Any], clean_environment: Path
) -> None:
    """Another user makes our agent's file, locks what there is, and names processes in a file."""
    clean_environment.chmod(0o1777)
    processes: list[subprocess.Popen[str]] = []

    def tampers(path: Path, text: str, *more: Path) -> None:
        python = str(shutil.which("python3", path="/usr/bin:/bin"))
        argv = [python, "-c", TAMPERS, str(path), text, *map(str, more)]
        made = subprocess.Popen(argv, cwd="/", stdout=subprocess.PIPE, text=True, **ANOTHER)
        processes.append(made)
        assert made.stdout is not None
        assert made.stdout.readline() == "done\n"

    async def body() -> None:
        async with servers("a") as (server,):
            agent = Path(server.hello["directory"]).name
            ours = clean_environment / f"remote-provisioners-{os.getuid()}-{agent}.gpus"
            tampers(ours, "")
            kernel = (await server.start("k1", SLEEPS, **gpus(1)))["pid"]
            found = clean_environment.glob("*.gpus")
            (published,) = [path for path in found if path.stat().st_uid == os.getuid()]
            fields = published.read_text().split()
            assert fields[:2] == ["0", str(kernel)]
            tampers(
                clean_environment / f"remote-provisioners-{ANOTHER['user']}-aa-1.gpus",
                # Our kernel, and the other user's own process, which is no kernel.
                f"2 {kernel} {fields[2]}\n2 {processes[0].pid} {start_time(processes[0].pid)}\n",
                published,
            )
            assert (await server.request("load"))["gpus_taken"] == ["0"]
            assert (await server.start("k2", SLEEPS, **gpus(1)))["gpus"] == ["2"]
            await server.request("forget", kernel_id="k1")
            assert (await server.start("k3", SLEEPS, **gpus(1)))["gpus"] == ["0"]

    try:
        run(body())
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        for path in clean_environment.glob("*.gpus"):
            path.unlink()


@needs_another_user
def test_another_users_kernels_and_gpus(gpus: Callable[..., Any], clean_environment: Path) -> None:
    python = str(shutil.which("python3", path="/usr/bin:/bin"))
    user = ANOTHER
    clean_environment.chmod(0o1777)

    async def body() -> None:
        path = another_agent(python, clean_environment, **user)
        stranger = subprocess.Popen(
            [python, "-I", "-S", "-c", STRANGER, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            **user,
        )

        def asks(**message: Any) -> Message:
            assert stranger.stdin is not None
            assert stranger.stdout is not None
            stranger.stdin.write(json.dumps(message) + "\n")
            stranger.stdin.flush()
            answer: Message = json.loads(stranger.stdout.readline())
            return answer

        async with contextlib.AsyncExitStack() as stack:
            stack.callback(stranger.communicate)
            (server,) = await stack.enter_async_context(servers("a"))
            await server.start("k1", SLEEPS, **gpus(1))
            theirs = asks(**start_request("t1", SLEEPS), **gpus(1))["result"]
            assert theirs["gpus"] == ["2"]
            published = f"remote-provisioners-{user['user']}-*.kernels"
            await server.until(lambda: list(clean_environment.glob(published)))
            for load in (await server.request("load"), asks(op="load")["result"]):
                assert (load["kernels"], load["mine"]) == (2, 1)
                assert load["gpus_taken"] == ["0", "2"]
            with pytest.raises(Refused, match="0 of 2 free"):
                await server.start("k2", SLEEPS, **gpus(1))
            assert asks(**start_request("t2", SLEEPS), **gpus(1))["error"]["code"] == "no-gpus"
            asks(op="forget", kernel_id="t1")
            await server.until(lambda: not list(clean_environment.glob(published)))
            assert (await server.start("k2", SLEEPS, **gpus(1)))["gpus"] == ["2"]
            load = await server.request("load")
            assert (load["kernels"], load["mine"]) == (2, 2)

    run(body())


@needs_another_user
def test_a_kernel_that_has_become_root_does_not_keep_the_others(clean_environment: Path) -> None:
    """As by sudo: its agent may not signal it. The user's other kernels end with their server."""
    python = str(shutil.which("python3", path="/usr/bin:/bin"))
    become_root = clean_environment / "become-root"
    clean_environment.chmod(0o1777)
    shutil.copy(str(shutil.which("setpriv")), become_root)
    become_root.chmod(0o4755)
    words = {"k1": [str(become_root), "--reuid=0", "--clear-groups", *SLEEPS], "k2": SLEEPS}
    path = another_agent(python, clean_environment, **ANOTHER)
    stranger = [python, "-I", "-S", "-c", STRANGER, path]
    asked = "".join(json.dumps(start_request(name, argv)) + "\n" for name, argv in words.items())
    done = subprocess.run(
        stranger, input=asked, capture_output=True, text=True, cwd="/", check=True, **ANOTHER
    )
    root, other = (json.loads(line)["result"]["pid"] for line in done.stdout.splitlines())
    try:
        eventually(lambda: not Path(f"/proc/{other}").exists())
    finally:
        os.kill(root, signal.SIGKILL)


def test_load_is_told_when_the_number_of_kernels_changes(clean_environment: Path) -> None:
    async def body() -> None:
        async with servers("a", "b") as (first, second):
            await first.start("k1", SLEEPS)
            await second.until(lambda: second.events("load"))
            # A thread writes it, and puts it in place when it is whole.
            published = f"remote-provisioners-{os.getuid()}-*.kernels"
            await second.until(lambda: list(clean_environment.glob(published)))
            (path,) = clean_environment.glob(published)
            assert path.read_text() == f"{first.hello['pid']} 1\n"
            await first.request("signal", kernel_id="k1", signum=signal.SIGKILL)
            await second.until(lambda: len(second.events("load")) == 2)
            await first.request("forget", kernel_id="k1")  # it has ended: nothing changes
            await first.start("k2", SLEEPS)
            await first.request("forget", kernel_id="k2")
            await second.until(lambda: len(second.events("load")) == 4)
            await second.until(lambda: not list(clean_environment.glob(published)))
            for server in (first, second):
                assert [event["mine"] for event in server.events("load")] == [1, 0, 1, 0]

    run(body())


# -- what it reports -----------------------------------------------------------------------


def test_status() -> None:
    async def body() -> None:
        began = time.time()
        async with servers("a", "b") as (first, second):
            started = await first.start("k1", SLEEPS)
            await second.start("k2", SLEEPS)
            assert began - 1 < started["started"] < time.time() + 1
            assert started["gpus"] == []
            path = first.hello["directory"] + "/agent.sock"
            await second.disconnect()
            status = await first.request("status")
            agent = status["agent"]
            assert {name: agent[name] for name in ("pid", "python", "directory")} == {
                name: first.hello[name] for name in ("pid", "python", "directory")
            }
            assert began - 1 < agent["since"] < time.time() + 1
            assert (status["load"]["kernels"], status["load"]["mine"]) == (2, 2)
            assert [(k["kernel_id"], k["owner"], k["owned"]) for k in status["kernels"]] == [
                ("k1", "a", True),
                ("k2", "b", False),
            ]
            assert status["kernels"][0]["started"] == started["started"]
            async with servers("b", path=path):
                pass  # to end its kernel

    run(body())


def test_nobody_adopts_what_does_not_run_yet(two_cores: None) -> None:
    async def body() -> None:
        async with servers("a", "b") as (first, second):
            await asyncio.gather(first.start("k1", SLEEPS), first.start("k2", SLEEPS))
            third = first.begin("k3", SLEEPS)
            await first.until(lambda: first.kernels("queued"))
            with pytest.raises(Refused, match="no-kernel"):
                await second.request("adopt", kernel_id="k3")
            with pytest.raises(Refused, match="taken: kernel k1 is another server's"):
                await second.request("adopt", kernel_id="k1")
            await second.request("adopt", kernel_id="k1", owner="a")  # its start is over by that
            assert first.kernels("taken") == ["k1"]
            with pytest.raises(Refused, match="taken: kernel k1 is another server's"):
                await first.request("adopt", kernel_id="k1", owner="a")  # of two, the second
            assert (await third)["pid"]

    run(body())


def test_the_agent_may_open_more_files_than_its_kernels() -> None:
    """Each client of a kernel takes some of the agent's; a kernel has a login's limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))

    async def body() -> None:
        async with servers("a") as (server,):
            mine = resource.prlimit(server.hello["pid"], resource.RLIMIT_NOFILE)
            assert mine == (min(65536, hard), hard)
            for argv in (["sleep", "300"], ["python", "-m", "ipykernel_launcher", "--no-stdout"]):
                started = await server.start("k1", argv)
                limit = resource.prlimit(started["pid"], resource.RLIMIT_NOFILE)
                assert limit == (lower, hard)

    try:
        run(body())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_files_of_kernelspecs_are_bounded(tmp_path: Path) -> None:
    """Also after the agent was killed: the kernel's record names its files."""
    spec = tmp_path / "spec"
    spec.mkdir()

    async def ask(server: Server, request: Any) -> Any:
        return type(request).answer.read(await server.request(request.op, **request.fields()))

    async def put(server: Server, text: str) -> str:
        (spec / "kernel.json").write_text(text)
        channel: Any = SimpleNamespace(request=partial(ask, server))
        return await ResourceArchive(spec).put(channel)

    async def body() -> None:
        async with servers("a") as (server,):
            used = await put(server, "used")
            resources = Path(server.hello["directory"], "resources")
            await server.start("k1", SLEEPS, resources=used)
            os.kill(server.hello["pid"], signal.SIGKILL)
            await server.closed
        async with servers("a") as (server,):
            await server.request("adopt", kernel_id="k1", owner="a")
            for number in range(KEPT + 3):
                last = await put(server, str(number))
                assert await put(server, str(number)) == last
            left = [path.name for path in resources.iterdir()]
            assert len(left) == KEPT + 1
            assert {used, last} <= set(left)

    run(body())
