"""File systems that answer late or never, with a real agent: nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ..rig.slow_files import SlowFiles
from .test_agent import SLEEPS, Refused, Server, listens, run, servers


@pytest.fixture
def slow_files(tmp_path: Path) -> Iterator[SlowFiles]:
    try:
        mounted = SlowFiles(tmp_path / "slow")
    except OSError as error:
        pytest.skip(f"needs root and /dev/fuse: {error}")
    with contextlib.closing(mounted):
        (mounted.directory / "here").mkdir()
        (mounted.directory / "python").write_text("")
        (mounted.directory / "python").chmod(0o755)
        yield mounted


@contextlib.asynccontextmanager
async def others_are_served(server: Server) -> AsyncIterator[list[float]]:
    """Another server asks again and again; how long it waits for each answer."""
    waits: list[float] = []

    async def ask() -> None:
        while True:
            began = time.monotonic()
            await server.request("tail", kernel_id="none")
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.002)

    asking = asyncio.ensure_future(ask())
    try:
        yield waits
    finally:
        asking.cancel()
    print(f"longest wait: {max(waits) * 1000:.1f} ms of {len(waits)}")
    assert max(waits) < 2  # the file system would be waited for: 5 s; this machine may be busy


def test_nobody_waits_for_somebody_elses_dead_file_system(slow_files: SlowFiles) -> None:
    dead = slow_files.directory

    async def body() -> None:
        async with servers("a", "b") as (server, other):
            await server.start("runs", listens(0), cwd=[str(dead / "here")])
            await server.until(lambda: server.kernels("listening") == ["runs"])
            slow_files.late(None)
            async with others_are_served(other):
                asked = {
                    "here": server.begin("in", listens(0), cwd=[str(dead / "here")]),
                    "x": asyncio.ensure_future(
                        server.request("resolve_path", kernel_id="runs", path="x")
                    ),
                }
                await other.start("elsewhere", listens(0))
                await other.until(lambda: other.kernels("listening") == ["elsewhere"])
                asked["python"] = server.begin("of", ["python"], python=str(dead / "python"))
                for named, answer in asked.items():
                    with pytest.raises(Refused, match="the file system hangs") as refused:
                        await answer
                    assert named in str(refused.value)
            slow_files.late(0)
            again = await server.start("in", listens(0), cwd=[str(dead / "here")])
            assert Path(f"/proc/{again['pid']}/cwd").readlink() == dead / "here"
            assert (await server.request("resolve_path", kernel_id="runs", path="."))["path"]

    run(body())


def test_a_slow_file_system_is_only_slow(slow_files: SlowFiles) -> None:
    async def body() -> None:
        async with servers("a", "b") as (server, other):
            slow_files.late(0.05)
            async with others_are_served(other):
                started = await server.start(
                    "slow", SLEEPS, cwd=[str(slow_files.directory / "here")], python=sys.executable
                )
            assert started["cwd"] == str(slow_files.directory / "here")

    run(body())
