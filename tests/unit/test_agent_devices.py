"""GPUs in the agent: who gets which, what the kernel is told, files that are not as expected."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remote_provisioners.agent.machine import gpus as gpus_module
from remote_provisioners.agent.machine.gpus import Gpus, Held, NoDevicesError, variables
from remote_provisioners.agent.processes.process_identity import start_time

from ..conftest import eventually

#: The names of two agents.
HERE, THERE = "aa-1", "bb-1"

Kernels = Callable[[], int]


@pytest.fixture
def kernel() -> Iterator[Kernels]:
    """Starts processes that lead a session, as kernels do; returns the pid."""
    started = []

    def start() -> int:
        started.append(subprocess.Popen(["sleep", "300"], start_new_session=True))
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


async def take(
    gpus: Gpus, count: int, of: list[str], pid: int = 0, former: Held | None = None
) -> Held:
    held = await gpus.take({"count": count, "devices": of}, former)
    if pid:
        await held.give_to(pid)
    return held


def file_of(directory: Path, agent: str) -> Path:
    return directory / f"remote-provisioners-{os.getuid()}-{agent}.gpus"


def test_no_device_twice(tmp_path: Path, kernel: Kernels) -> None:
    four = ["0", "1", "2", "3"]
    here, there = Gpus(str(tmp_path), HERE), Gpus(str(tmp_path), THERE)

    async def body() -> None:
        first = await take(here, 1, four, kernel())
        second = await take(there, 2, four, kernel())
        assert (first.names, second.names) == (["0"], ["1", "2"])
        for gpus in (here, there):
            assert gpus.taken() == ["0", "1", "2"]
            held = r"0 by pid \d+ of \w+, 1 by pid \d+ of \w+, 2 by pid \d+ of \w+"
            with pytest.raises(NoDevicesError, match=f"^2 GPUs wanted, 1 of 4 free; held: {held}$"):
                await take(gpus, 2, four)
        third = await take(here, 1, four)  # what was refused has let go of it
        assert third.names == ["3"]
        for each in (first, first, second, third):
            each.close()
        await here.publish()
        await there.publish()
        assert here.taken() == there.taken() == []

    asyncio.run(body())
    assert list(tmp_path.iterdir()) == []


def test_the_same_again_in_the_order_of_the_host(tmp_path: Path, kernel: Kernels) -> None:
    async def body() -> None:
        gpus = Gpus(str(tmp_path), HERE)
        first = await take(gpus, 1, ["0", "1", "2"], kernel())
        held = await take(gpus, 2, ["0", "1", "2"], kernel())
        assert held.names == ["1", "2"]
        first.close()
        again = await take(gpus, 2, ["0", "1", "2"], kernel(), former=held)
        assert again.names == ["1", "2"]
        again.close()  # its kernel has ended by itself; what it had is preferred
        assert (await take(gpus, 1, ["0", "1", "2"], former=again)).names == ["1"]

    asyncio.run(body())


def test_fewer_again_and_none(tmp_path: Path) -> None:
    async def body() -> None:
        gpus = Gpus(str(tmp_path), HERE)
        held = await take(gpus, 2, ["0", "1"])
        with pytest.raises(NoDevicesError):
            await take(gpus, 3, ["0", "1"], former=held)
        assert gpus.taken() == ["0", "1"]
        held = await take(gpus, 1, ["0", "1"], former=held)
        assert gpus.taken() == held.names == ["0"]
        assert (await take(gpus, 0, ["0", "1"], former=held)).names == []
        assert gpus.taken() == []

    asyncio.run(body())


def test_who_wants_none_writes_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        for wanted in ({}, {"count": 0, "devices": ["0"]}, {"count": None}):
            assert (await Gpus(str(tmp_path), HERE).take(wanted)).names == []

    asyncio.run(body())
    assert list(tmp_path.iterdir()) == []


def test_a_device_named_twice_is_one(tmp_path: Path) -> None:
    with pytest.raises(NoDevicesError, match=r"^2 GPUs wanted, 1 of 1 free$"):
        asyncio.run(take(Gpus(str(tmp_path), HERE), 2, ["0", "0"]))


def test_names_are_made_safe_and_stay_different(tmp_path: Path, kernel: Kernels) -> None:
    names = ["GPU-8a56", "../x", "a/b", "a_b", "a%2Fb", "é", "\udce9", "a b\n"]
    held = asyncio.run(take(Gpus(str(tmp_path), HERE), len(names), names, kernel()))
    assert held.names == names
    assert Gpus(str(tmp_path), THERE).taken() == sorted(names)
    assert [path.name for path in tmp_path.iterdir()] == [file_of(tmp_path, HERE).name]


def test_every_user_can_read_the_file(tmp_path: Path) -> None:
    asyncio.run(take(Gpus(str(tmp_path), HERE), 1, ["0"]))
    assert stat.S_IMODE(file_of(tmp_path, HERE).stat().st_mode) == 0o644


def test_free_when_the_kernel_has_ended_whatever_its_agent_does(
    tmp_path: Path, kernel: Kernels
) -> None:
    async def body() -> None:
        pid = kernel()
        await take(Gpus(str(tmp_path), HERE), 1, ["0"], pid)  # this agent is killed now
        there = Gpus(str(tmp_path), THERE)
        assert there.taken() == ["0"]
        os.kill(pid, 9)  # and nobody reaps it
        eventually(lambda: there.taken() == [])
        assert (await take(there, 1, ["0"])).names == ["0"]

    asyncio.run(body())


def test_the_next_agent_keeps_them(tmp_path: Path, kernel: Kernels) -> None:
    async def body() -> None:
        pid = kernel()
        await take(Gpus(str(tmp_path), HERE), 1, ["0"], pid)
        stale = Path(str(file_of(tmp_path, HERE)).replace(".gpus", ".0f.gpus"))
        stale.write_text(f"1 {pid} {start_time(pid)}\n")
        again = Gpus(str(tmp_path), HERE)
        held = again.keep(["0"], pid, start_time(pid) or 0)
        again.settle()
        await again.publish()
        assert not stale.exists()
        assert Gpus(str(tmp_path), THERE).taken() == ["0"]
        held.close()
        await again.publish()
        assert Gpus(str(tmp_path), THERE).taken() == []

    asyncio.run(body())


@pytest.mark.parametrize(
    "entry",
    [
        "0 {kernel} 1",  # another process has its pid
        "0 {ended} {started}",
        "0 {shell} {shell_started}",  # no kernel
        "0 -1 5",
        "0 99999999999999999 1",
        "0",
        "\udcff \udcff",
        "x" * 100_000,
    ],
)
def test_entries_of_no_kernel_do_not_count(tmp_path: Path, kernel: Kernels, entry: str) -> None:
    pid, ended, shell = kernel(), kernel(), subprocess.Popen(["sleep", "300"])
    started = start_time(ended)
    os.kill(ended, 9)
    os.waitpid(ended, 0)
    try:
        text = entry.format(
            kernel=pid,
            ended=ended,
            started=started,
            shell=shell.pid,
            shell_started=start_time(shell.pid),
        )
        file_of(tmp_path, THERE).write_bytes(text.encode("utf-8", "surrogateescape") + b"\n")
        assert Gpus(str(tmp_path), HERE).taken() == []
    finally:
        shell.kill()
        shell.wait()


def test_files_that_no_agent_has_made(tmp_path: Path, kernel: Kernels) -> None:
    pid = kernel()
    (tmp_path / "elsewhere").write_text(f"0 {pid} {start_time(pid)}\n")
    file_of(tmp_path, "cc-1").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(file_of(tmp_path, "dd-1"))
    file_of(tmp_path, "ee-1").mkdir()
    another = tmp_path / f"remote-provisioners-{os.getuid() + 1}-ff-1.gpus"
    another.write_text(f"0 {pid} {start_time(pid)}\n")  # not that user's
    assert Gpus(str(tmp_path), HERE).taken() == []


def test_somebody_has_made_our_file(tmp_path: Path, kernel: Kernels) -> None:
    file_of(tmp_path, HERE).mkdir()
    (file_of(tmp_path, HERE) / "x").touch()

    async def body() -> None:
        gpus = Gpus(str(tmp_path), HERE)
        await take(gpus, 1, ["0"], kernel())
        assert Gpus(str(tmp_path), THERE).taken() == ["0"]
        gpus.close()
        assert Gpus(str(tmp_path), THERE).taken() == []

    asyncio.run(body())
    assert [path.name for path in tmp_path.iterdir()] == [file_of(tmp_path, HERE).name]


def test_a_start_that_is_cancelled_takes_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        gpus = Gpus(str(tmp_path), HERE)
        taking = asyncio.ensure_future(take(gpus, 1, ["0"]))
        await asyncio.sleep(0)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
        await gpus.publish()
        assert gpus.taken() == []

    asyncio.run(body())


def test_no_directory_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(take(Gpus(str(tmp_path / "gone"), HERE), 1, ["0"]))


TAKES = """
import asyncio, sys
from remote_provisioners.agent.machine.gpus import Gpus, NoDevicesError
async def body():
    gpus = Gpus(sys.argv[1], sys.argv[2])
    sys.stdin.readline()
    try:
        print(*(await gpus.take({"count": 1, "devices": ["0", "1", "2"]})).names, flush=True)
    except NoDevicesError:
        print("none", flush=True)
asyncio.run(body())
sys.stdin.readline()
"""


def test_agents_that_take_at_the_same_moment(tmp_path: Path) -> None:
    agents = [
        subprocess.Popen(
            [sys.executable, "-c", TAKES, str(tmp_path), f"{number:x}-1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that what they take counts as a kernel's
        )
        for number in range(5)
    ]

    def tell(agent: subprocess.Popen[str]) -> None:
        assert agent.stdin is not None
        agent.stdin.write("\n")
        agent.stdin.flush()

    for agent in agents:
        tell(agent)
    taken = [agent.stdout.readline().strip() for agent in agents if agent.stdout]
    for agent in agents:
        agent.communicate("\n")
    given = [name for name in taken if name != "none"]
    assert len(given) == len(set(given))
    assert given


def test_what_the_kernel_is_told() -> None:
    host = {"count": 0, "devices": ["0", "1"]}
    name = "CUDA_VISIBLE_DEVICES"
    assert variables(host, Held(["0", "1"]), {name: "7"}) == {name: "0,1"}
    assert variables(host, Held(), {}) == {name: ""}
    assert variables(host, Held(), {name: "7"}) == {}
    assert variables({}, Held(), {}) == {}


PYTHON = shutil.which("python3", path="/usr/bin:/bin") or ""

#: As another user who sees no process of ours: whether the devices in a directory are taken.
LOOKS = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.setgroups([])
os.setgid(20001)
os.setuid(20001)
assert not os.path.exists("/proc/" + sys.argv[3])
from remote_provisioners.agent.machine.gpus import Gpus
print(Gpus(sys.argv[2], "bb-1").taken())
"""


@pytest.mark.skipif(
    os.getuid() != 0 or not PYTHON,
    reason="mounts /proc, and becomes another user, who needs a Python of the system",
)
def test_a_host_that_hides_the_processes_of_others(tmp_path: Path, kernel: Kernels) -> None:
    source = Path(gpus_module.__file__).parents[2]
    hidden = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'

    def seen(directory: Path, pid: int) -> str:
        # Sources and /tmp may be closed to other users: their copies are open.
        argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", PYTHON, "-c", LOOKS]
        words = [*argv, str(copy), str(directory), str(pid)]
        return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        copy = Path(made)
        shutil.copytree(source, copy / "remote_provisioners")
        (copy / "shared").mkdir()
        subprocess.run(["chmod", "-R", "a+rX", made], check=True)
        pid = kernel()
        asyncio.run(take(Gpus(str(copy / "shared"), HERE), 1, ["0"], pid))
        path = file_of(copy / "shared", HERE)
        path.write_text(f"0 {pid} {start_time(pid)}\n")
        assert seen(copy / "shared", pid) == "['0']"
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        assert seen(copy / "shared", pid) == "[]"
