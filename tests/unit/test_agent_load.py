"""The load of a host: what counts of what others publish, and what is news."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.agent import apart
from remote_provisioners.agent.machine import load as load_module
from remote_provisioners.agent.machine.load import Load, cores, kernels_of_others, notable

DIGEST = "0123456789ab"
NAME = f"remote-provisioners-{os.getuid()}-{DIGEST}.kernels"


@pytest.fixture
def agent() -> Iterator[Callable[..., int]]:
    """Something that runs with an agent's command line; its number."""
    running: list[subprocess.Popen[bytes]] = []

    def run(digest: str = DIGEST, **kwargs: Any) -> int:
        program = f"/tmp/remote-provisioners-0/{digest}/agent.pyz"
        argv = ["sh", "-c", "echo; read line", program]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd="/", **kwargs))
        assert running[-1].stdout is not None
        running[-1].stdout.read(1)  # it has its command line
        return running[-1].pid

    yield run
    for process in running:
        process.communicate(b"\n")


def counted(directory: Path) -> int:
    return kernels_of_others(str(directory), os.listdir(directory))


def write(directory: Path, content: str, name: str = NAME) -> Path:
    path = directory / name
    path.write_text(content)
    return path


def test_another_agent_counts(tmp_path: Path, agent: Callable[..., int]) -> None:
    write(tmp_path, f"{agent()} 3\n")
    other = f"remote-provisioners-{os.getuid()}-ffff.kernels"
    write(tmp_path, f"{agent('ffff')} 4\n", other)
    assert counted(tmp_path) == 7
    assert kernels_of_others(str(tmp_path), [NAME, other], own=NAME) == 4


@pytest.mark.parametrize(
    "content", ["", "x", "{pid}", "{pid} -1\n", "{pid} 3", "{pid} 99999\n", "-{pid} 3\n", "0 3\n"]
)
def test_what_is_no_count(tmp_path: Path, agent: Callable[..., int], content: str) -> None:
    write(tmp_path, content.format(pid=agent()))
    assert counted(tmp_path) == 0


def test_the_file_of_an_agent_that_has_ended(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    write(tmp_path, f"{ended.pid} 3\n")
    assert counted(tmp_path) == 0


def test_the_number_is_another_process_by_now(tmp_path: Path) -> None:
    write(tmp_path, f"{os.getpid()} 3\n")
    assert counted(tmp_path) == 0


def test_another_agents_number(tmp_path: Path, agent: Callable[..., int]) -> None:
    """One file an agent: a copy of it under another name adds nothing."""
    content = f"{agent()} 3\n"
    write(tmp_path, content)
    write(tmp_path, content, f"remote-provisioners-{os.getuid()}-aaaa.kernels")
    assert counted(tmp_path) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="makes files of other users")
def test_a_file_of_another_owner_than_it_says(tmp_path: Path, agent: Callable[..., int]) -> None:
    os.chown(write(tmp_path, f"{agent()} 3\n"), 20001, 20001)
    assert counted(tmp_path) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="makes files of other users")
def test_a_process_of_another_owner_than_the_file(
    tmp_path: Path, agent: Callable[..., int]
) -> None:
    name = f"remote-provisioners-20001-{DIGEST}.kernels"
    path = write(tmp_path, f"{agent()} 3\n", name)
    os.chown(path, 20001, 20001)
    assert counted(tmp_path) == 0
    theirs: dict[str, Any] = {"user": 20001, "start_new_session": True}
    pid = agent(user=20001)  # an agent leads no session
    os.chown(write(tmp_path, f"{pid} 3\n", name), 20001, 20001)
    assert counted(tmp_path) == 0  # it runs nothing
    for _ in range(3):
        agent("kernel", **theirs)
    assert counted(tmp_path) == 3
    os.chown(write(tmp_path, f"{pid} 9999\n", name), 20001, 20001)
    assert counted(tmp_path) == 3  # to make the host look full one has to fill it


def test_what_is_no_file(tmp_path: Path, agent: Callable[..., int]) -> None:
    real = write(tmp_path, f"{agent()} 3\n", "elsewhere")
    (tmp_path / NAME).symlink_to(real)
    os.mkfifo(tmp_path / f"remote-provisioners-{os.getuid()}-aaaa.kernels")
    (tmp_path / f"remote-provisioners-{os.getuid()}-bbbb.kernels").mkdir()
    assert counted(tmp_path) == 0


def load_of(tmp_path: Path) -> tuple[Load, list[int], list[dict[str, Any]]]:
    directory = tmp_path / "remote-provisioners-0" / DIGEST
    directory.mkdir(parents=True)
    mine, told = [0], []
    return Load(str(directory), lambda: mine[0], told.append), mine, told


async def done(load: Load) -> None:
    """Wait until the news are told and published."""
    while asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.sleep(0.001)
    await apart.turns.run(load.temporary, lambda: None)


def test_a_snapshot(tmp_path: Path) -> None:
    load, mine, _ = load_of(tmp_path)
    mine[0] = 2
    snapshot = asyncio.run(load.snapshot())
    assert snapshot["cores"] == cores() >= 1
    assert 0 < snapshot["memory_available"] < snapshot["memory"]
    assert snapshot["load"] >= 0
    assert (snapshot["kernels"], snapshot["mine"], snapshot["gpus_taken"]) == (2, 2, [])


def test_drafts_of_an_agent_that_was_killed_go(tmp_path: Path) -> None:
    load, _, _ = load_of(tmp_path)
    ours = f"remote-provisioners-{os.getuid()}-{DIGEST}"
    drafts = [f"{ours}.kernels.00ff.new", f"{ours}.gpus.00ff.new"]
    others = f"remote-provisioners-{os.getuid()}-other.kernels.00ff.new"
    for name in (*drafts, others):
        (tmp_path / name).touch()
    asyncio.run(load.snapshot())
    assert [path.name for path in tmp_path.glob("*.new")] == [others]


def test_an_agent_on_another_file_system_publishes_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's directory may be below /run/user or in the home directory."""

    async def body(shared: Path) -> None:
        monkeypatch.setattr(load_module, "_shared_directory", lambda parent: str(shared))
        load, mine, _ = load_of(tmp_path)
        mine[0] = 2
        load.changed()
        await done(load)
        assert [path.read_text() for path in shared.iterdir()] == [f"{os.getpid()} 2\n"]
        load.close()
        assert not list(shared.iterdir())

    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        assert os.stat(shared).st_dev != tmp_path.stat().st_dev
        asyncio.run(body(Path(shared)))


def test_ours_is_published_while_we_have_kernels(tmp_path: Path) -> None:
    stale = write(tmp_path, "1 9\n")
    before = os.umask(0o077)
    load, mine, told = load_of(tmp_path)
    assert not stale.exists()

    async def body() -> None:
        mine[0] = 2
        load.changed()
        load.changed()
        await done(load)
        assert stale.read_text() == f"{os.getpid()} 2\n"
        assert stale.stat().st_mode & 0o777 == 0o644
        mine[0] = 0
        load.changed()
        await done(load)
        assert not stale.exists()
        mine[0] = 1
        load.changed()
        await done(load)
        load.close()

    asyncio.run(body())
    os.umask(before)
    assert not stale.exists()
    assert [(event["event"], event["mine"]) for event in told] == [
        ("load", 2),
        ("load", 0),
        ("load", 1),
    ]


def test_ours_never_grows_old(tmp_path: Path) -> None:
    """Hosts remove old files from /tmp. Without ours, others would take our kernels' GPUs."""
    load, _, _ = load_of(tmp_path)
    ours = [write(tmp_path, "1 9\n"), write(tmp_path, "", NAME.replace("kernels", "gpus"))]
    for path in ours:
        os.utime(path, (0, 0))
    asyncio.run(load.snapshot())
    assert all(path.stat().st_mtime > 0 for path in ours)


def test_a_name_that_is_taken_does_no_harm(tmp_path: Path) -> None:
    load, mine, told = load_of(tmp_path)
    (tmp_path / NAME / "x").mkdir(parents=True)
    mine[0] = 2

    async def body() -> None:
        load.changed()
        await done(load)
        load.close()

    asyncio.run(body())
    assert told[0]["mine"] == 2


def test_what_is_news() -> None:
    before: dict[str, Any] = {
        "cores": 4,
        "load": 1.0,
        "memory": 1000,
        "memory_available": 500,
        "kernels": 3,
        "mine": 1,
        "gpus_taken": [],
    }
    assert notable(None, before)
    for quiet in ({}, {"load": 1.9}, {"memory_available": 450}):
        assert not notable(before, {**before, **quiet}), quiet
    for news in (
        {"load": 2.1},
        {"memory_available": 390},
        {"memory_available": 610},
        {"kernels": 4},
        {"mine": 0},
        {"gpus_taken": ["0"]},
    ):
        assert notable(before, {**before, **news}), news
    unknown = {**before, "memory": 0, "memory_available": 0}
    assert not notable(unknown, unknown)
