"""No file system and no stuck process holds a loop for more than 5 ms, as a clock shows.

`test_agents_loop.py` and `test_event_loop.py` check which calls the loops make.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.io_thread import io_thread

from ..blocked_thread import sleeps_of
from ..conftest import InstallSpec, Start, eventually
from ..rig import Rig
from ..rig.slow_files import SlowFiles
from .test_agent import Refused, listens, run, servers
from .test_slow_files import slow_files  # noqa: F401 (a fixture)

MOST_SECONDS = 0.005

pytestmark = pytest.mark.long


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A control group that stops its processes, whatever signal they get."""
    group = Path("/sys/fs/cgroup/freezer", f"rp-blocked-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs root and the freezer of control groups, version 1")
    yield group
    (group / "freezer.state").write_text("THAWED")
    eventually(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_sleep_is_seen(slow_files: SlowFiles) -> None:  # noqa: F811
    """If a loop waited, these tests would notice."""
    slow_files.late(0.05)
    code = f"import os\nfor n in range(9): os.path.exists('{slow_files.directory}/%d' % n)"
    with subprocess.Popen([sys.executable, "-c", code]) as waits, sleeps_of(waits.pid) as sleeps:
        waits.wait()
    assert sleeps.late(MOST_SECONDS)


def test_the_agents_loop(slow_files: SlowFiles, freezer: Path) -> None:  # noqa: F811
    place = str(slow_files.directory / "here")

    async def body() -> None:
        async with servers("a", "b") as (server, other):
            with sleeps_of(int(server.hello["pid"])) as sleeps:
                slow_files.late(0.05)
                await server.start("slow", listens(0), cwd=[place], python=sys.executable)
                await server.until(lambda: server.kernels("listening") == ["slow"])
                slow_files.late(None)
                dead = server.begin("dead", listens(0), cwd=[place + "/x"])
                for number in range(5):
                    started = await other.start(f"k{number}", listens(0))
                    (freezer / "cgroup.procs").write_text(str(started["pid"]))
                (freezer / "freezer.state").write_text("FROZEN")
                await asyncio.gather(
                    *(other.request("forget", kernel_id=f"k{number}") for number in range(5))
                )
                await other.request("status")
                with pytest.raises(Refused, match="the file system hangs"):
                    await dead
                slow_files.late(0)
                (freezer / "freezer.state").write_text("THAWED")
            assert sleeps.late(MOST_SECONDS) == {}
            assert sleeps.looks > 100

    run(body())


def test_the_servers_io_thread(
    rig: Rig,
    home: Path,
    install_spec: InstallSpec,
    start: Start,
    slow_files: SlowFiles,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The home directory is slow, and the kernelspec's files are there."""
    slow_home = slow_files.directory / "home"
    (slow_home / ".ssh").mkdir(parents=True)
    for path in (home / ".ssh").iterdir():
        if path.is_file():
            shutil.copyfile(path, slow_home / ".ssh" / path.name)
            (slow_home / ".ssh" / path.name).chmod(0o600)
    name = install_spec(rig.hosts[0].target, env={"HERE": "{resource_dir}"}, files={"x": "x"})
    monkeypatch.setenv("HOME", str(slow_home))
    with contextlib.ExitStack() as stack:

        async def thread() -> int:
            return threading.get_native_id()

        number = io_thread().call_blocking(thread(), 10)
        slow_files.late(0.02)
        sleeps: Any = stack.enter_context(sleeps_of(os.getpid(), number))
        session = start(name)
        assert session.value("6 * 7") == 42
        session.manager.restart_kernel()
        stack.close()
        slow_files.late(0)
    assert sleeps.late(MOST_SECONDS) == {}
