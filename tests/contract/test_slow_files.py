"""File systems that answer late or never, with a real agent: nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from remote_provisioners.agent import apart
from remote_provisioners.agent.output import spool as spool_module
from remote_provisioners.agent.output.budget import Budget
from remote_provisioners.agent.output.large_message import LargeMessage
from remote_provisioners.agent.output.spool import Spool
from remote_provisioners.protocol import zmtp

from ..rig.slow_files import SlowFiles
from .test_agent import SLEEPS, Refused, Server, listens, run, servers

MIB = 1024 * 1024


@pytest.fixture
def slow_files(slow_files: SlowFiles) -> SlowFiles:
    (slow_files.directory / "here").mkdir()
    (slow_files.directory / "python").write_text("")
    (slow_files.directory / "python").chmod(0o755)
    return slow_files


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


# -- output that is kept in files ------------------------------------------------------------


class Reader:
    """Reads a spool from its beginning, as a subscriber does."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._at = self._offset = 0
        self.got: list[bytes] = []
        self._part = b""

    def read(self) -> None:
        spool = self._spool
        while spool.first <= self._at < spool.end:
            found = spool.read(self._at)
            if found is None:
                return
            if not isinstance(found, LargeMessage):
                self.got += found
                self._at += len(found)
                continue
            piece = spool.read_large(found, self._offset)
            if piece is not None:
                self._part += piece
                self._offset += len(piece)
            elif found.complete and self._offset == found.size:
                self.got.append(self._part)
                self._at, self._offset, self._part = self._at + 1, 0, b""
            else:
                return


def spool_on(files: SlowFiles, memory: int = MIB) -> tuple[Spool, Reader, list[float]]:
    """A spool, somebody who reads it, and how long each call on the loop took."""
    directory = str(files.directory / "here")
    budget = Budget(directory, begin=apart.begin)
    spool = Spool(directory, memory, 100 * MIB, budget, partial(apart.turns.begin, directory))
    return spool, Reader(spool), []


def timed(took: list[float], call: Callable[[], object]) -> None:
    began = time.monotonic()
    call()
    took.append(time.monotonic() - began)


def test_output_on_a_slow_disk_is_whole_and_holds_up_nobody(slow_files: SlowFiles) -> None:
    async def body() -> None:
        spool, reader, took = spool_on(slow_files)
        spool.on_done = lambda: timed(took, spool.fit)
        small = [zmtp.message([b"topic", bytes([n % 250]) * 100_000]) for n in range(100)]
        large = zmtp.message([b"topic", b"x" * 4_000_000])
        slow_files.late(0.005)
        for number, message in enumerate(small):
            timed(took, lambda message=message: spool.append(message))
            while not spool.fit():
                await asyncio.sleep(0.005)
            if number == 50:
                spool.begin(large[: 2 * MIB])
                for at in range(2 * MIB, len(large), 100_000):
                    timed(took, spool.fit)
                    await asyncio.sleep(0.005)
                    spool.proceed(large[at : at + 100_000], at + 100_000 >= len(large))
        assert spool.first == 0
        assert spool.disk_used > 8 * MIB
        assert spool.memory_used <= 2 * MIB
        spool.on_done = lambda: timed(took, reader.read)
        timed(took, reader.read)
        while len(reader.got) < 101:
            await asyncio.sleep(0.005)
        assert reader.got == [*small[:51], large, *small[51:]]
        spool.close()
        await apart.turns.run(str(slow_files.directory / "here"), lambda: None, 60)
        slow_files.late(0)
        assert not list((slow_files.directory / "here").iterdir())
        print(f"longest call: {max(took) * 1000:.1f} ms of {len(took)}")
        assert max(took) < 0.5  # a file of 1 MiB would take longer than that; a call some ms

    run(body())


def test_output_on_a_dead_disk_is_bounded(
    slow_files: SlowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SECONDS", 0.2)

    async def body() -> None:
        spool, _, took = spool_on(slow_files)
        slow_files.late(None)
        messages = [zmtp.message([b"%d" % number, bytes(100_000)]) for number in range(150)]
        for message in messages[:100]:
            timed(took, lambda message=message: spool.append(message))
            while not spool.fit():
                await asyncio.sleep(0.01)
        assert spool.memory_used <= 2 * MIB
        assert spool.first > 80  # the oldest were dropped
        assert spool.gap(0).count == spool.first
        slow_files.late(0)
        directory = str(slow_files.directory / "here")
        await apart.turns.run(directory, lambda: None, 60)
        for message in messages[100:]:
            spool.append(message)
            while not spool.fit():
                await asyncio.sleep(0.01)
        assert spool.first < 100  # it is written to again
        assert max(took) < 0.5
        spool.close()
        await apart.turns.run(directory, lambda: None, 60)

    run(body())
