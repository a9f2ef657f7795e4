"""Processes that are nobody's children here, with pidfds and, as on older systems, without."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from remote_provisioners.agent.processes import foreign_process as adopted
from remote_provisioners.agent.processes.foreign_process import ForeignProcess
from remote_provisioners.agent.processes.process_identity import start_time, stat_of


@pytest.fixture(params=["pidfd", "polled", "pidfd without groups"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "polled":
        monkeypatch.setattr(adopted, "_pidfd", lambda pid: None)
        monkeypatch.setattr(adopted, "_POLL_SECONDS", 0.01)
    elif request.param == "pidfd without groups":
        monkeypatch.setattr(ForeignProcess, "_signal_by_descriptor", lambda *args: False)
    return str(request.param)


def orphan(directory: Path, text: str) -> int:
    """A shell that leads a session, prints to its directory, and whose parent has ended."""
    script = f"setsid sh -c '{text}' >{directory}/output 2>&1 </dev/null & echo $!"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout)


def running(pid: int) -> bool:
    found = stat_of(pid)
    return found is not None and not found.ended


async def until(condition: object) -> None:
    for _ in range(500):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not in time")


def test_watched_signalled_and_ended_with_its_group(way: str, tmp_path: Path) -> None:
    async def body() -> None:
        text = f"echo said; sleep 300 & echo $! > {tmp_path}/child; wait"
        pid = orphan(tmp_path, text)
        await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        child = int((tmp_path / "child").read_text())
        process = ForeignProcess(pid, start_time(pid) or 0, str(tmp_path), "k1")
        ends: list[int | None] = []
        process.watch(lambda: ends.append(process.reap()))
        assert process.reap() is None
        assert process.signal(0)
        os.kill(pid, signal.SIGTERM)  # the leader alone
        await until(lambda: ends)
        assert ends[0] in (-signal.SIGTERM, -1)
        assert process.tail().startswith("said")
        assert ("not known" in process.tail()) == (ends[0] == -1)
        await until(lambda: not running(child))
        assert not process.signal(signal.SIGKILL)
        await asyncio.sleep(0.05)
        assert len(ends) == 1

    asyncio.run(body())


def test_another_process_of_its_number(way: str, tmp_path: Path) -> None:
    async def body() -> None:
        stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
        began = start_time(stranger.pid)
        assert began is not None
        process = ForeignProcess(stranger.pid, began - 1, str(tmp_path), "k1")
        assert process.returncode == -1
        assert not process.signal(signal.SIGKILL)
        await asyncio.sleep(0.05)
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()

    asyncio.run(body())


def test_a_group_that_cannot_be_told_is_left_alone(tmp_path: Path) -> None:
    """Its leader is gone, and nothing says that the rest is not somebody else's by now."""

    async def body() -> None:
        other = tmp_path / "other"
        other.mkdir()
        pid = orphan(other, f"sleep 300 & echo $! > {tmp_path}/child; wait")
        await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        child = int((tmp_path / "child").read_text())
        began = start_time(pid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not running(pid))
        process = ForeignProcess(pid, (began or 0) - 1, str(tmp_path), "k1")
        assert process.returncode == -1
        assert running(child)
        os.kill(child, signal.SIGKILL)

    asyncio.run(body())
