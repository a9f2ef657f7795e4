"""What this process remembers of a cluster's jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from remote_provisioners.engines.slurm.cluster import Cluster
from remote_provisioners.hosts.transport import Completed
from remote_provisioners.placement.host_address import HostAddress

PENDING = "17|PENDING|Priority|gpu|N/A||1:00:00|1:00:00\n"
CANCELLED = "17|CANCELLED|None|gpu|N/A||1:00:00|1:00:00\n"


class Programs:
    """Slurm's programs, with one job."""

    def __init__(self) -> None:
        self.run_so_far: list[str] = []
        self.shown = PENDING

    async def run(
        self, login: HostAddress, argv: Sequence[str], stdin: bytes = b"", seconds: float = 20.0
    ) -> Completed:
        program = next(word for word in argv if word in ("sbatch", "squeue", "scancel"))
        self.run_so_far.append(program)
        if program == "scancel":
            self.shown = CANCELLED
        printed = {"sbatch": "17\n", "scancel": ""}.get(program, self.shown)
        if any(word.startswith("--name=") for word in argv):
            printed = "17\n"
        return Completed(0, printed.encode(), b"")


def test_a_cancelled_job_is_forgotten() -> None:
    async def use() -> None:
        programs: Any = Programs()
        cluster = Cluster(HostAddress("localhost"), programs)
        job = await cluster.submit("kernel-1", [], b"")
        assert await cluster.named("kernel-1") == job == "17"
        cluster.watch(job)
        assert programs.run_so_far == ["sbatch"]  # its id is known
        await cluster.cancel("kernel-1")
        assert programs.shown == CANCELLED
        assert not cluster.follows(job)
        programs.run_so_far.clear()
        await cluster.named("kernel-1")
        assert programs.run_so_far == ["squeue"]  # nothing of it was kept
        await cluster.close()

    asyncio.run(use())
