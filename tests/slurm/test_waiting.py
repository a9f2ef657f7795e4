"""What many waiting jobs cost."""

from __future__ import annotations

import asyncio
import resource
import time

import pytest

from benchmarks.simulation.starts import request
from remote_provisioners.engines.slurm.engine import SlurmEngine
from remote_provisioners.engines.slurm.request import JobOptions
from remote_provisioners.engines.submission import Submission
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import HostAddress

from .cluster import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.long]

JOBS = 100
#: After this time the server asks for the jobs every 8 seconds, later every 15.
WAIT_SECONDS, LOOK_SECONDS = 60.0, 30.0


def used() -> float:
    """The CPU time of this process and of Slurm's programs that it has run."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def test_jobs_that_wait_cost_next_to_nothing(slurm: Slurm) -> None:
    async def body() -> tuple[float, float, float]:
        login, options = HostAddress("localhost"), JobOptions()
        engines = [SlurmEngine(login, options, "python3") for _ in range(JOBS)]
        submissions = [Submission(engine, request(seconds=600)) for engine in engines]
        running = []
        for submission in submissions:
            running.append(asyncio.ensure_future(submission.run()))
            await asyncio.sleep(0.1)
        until = time.monotonic() + 120
        while not all("is waiting" in submission.text for submission in submissions):
            assert time.monotonic() < until, {submission.text for submission in submissions}
            await asyncio.sleep(0.5)
        await asyncio.sleep(WAIT_SECONDS)
        began, before = time.monotonic(), used()
        await asyncio.sleep(LOOK_SECONDS)
        share = (used() - before) / (time.monotonic() - began)
        began = time.monotonic()
        running[0].cancel()
        await asyncio.wait([running[0]])
        gone = time.monotonic() - began
        job = submissions[1].id.rpartition(" ")[2]
        began = time.monotonic()
        slurm.ask("scancel", job)
        alone = time.monotonic() - began
        for start in running:
            start.cancel()
        await asyncio.wait(running)
        return share, gone, alone

    with slurm.busy():
        share, gone, alone = io_thread().call_blocking(body(), 290)
    print(f"{share:.3%} of a core; cancelled in {gone:.2f} s, where scancel takes {alone:.2f} s")
    assert gone < 10  # 2 s more than scancel are the aim
    assert share < 0.01  # 0.1 % is the aim; a test does not depend on the machine
