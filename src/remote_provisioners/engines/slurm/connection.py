"""Reach a job's node. srun on the login node starts a step of the job, and the step carries a pipe.

srun works wherever jobs do: compute nodes need no sshd and no route to the server, and the step
belongs to the job's allocation. Slurm (munge) authenticates both ends as the same user.
"""

from __future__ import annotations

from ...errors import HostError, NodeGoneError, UnreachableError
from ...hosts.gateways import gateways
from ...hosts.transport import Transport
from ...hosts.transport.inner import open_inner
from ...hosts.transport.pipe.errors import why_not_opened
from ...hosts.transport.pipe.start import NotOpened
from ...placement.way_in import COMMAND, WayIn
from .address import JobAddress
from .cluster import cluster_at
from .reasons import refusal


def step_words(job: str) -> tuple[str, ...]:
    """The program that runs the words after it in the job.

    Without `--unbuffered`, srun keeps the beginning of a line until the end of the line comes.
    """
    return (
        "srun",
        f"--jobid={job}",
        "--overlap",
        "--nodes=1",
        "--ntasks=1",
        "--mpi=none",
        "--cpu-bind=none",
        "--unbuffered",
        "--quiet",
    )


async def connect_job(address: JobAddress, python: str) -> Transport:
    """Start a step. Raises NodeGoneError if the job has ended, HostError."""
    through = await (await gateways()).open(address.through)
    try:
        pipe = await open_inner(through, address, python)
    except NotOpened as failed:
        raise (await _why(failed, address, python)).at(str(address)) from None
    pipe.acknowledges = True  # srun and slurmstepd do not set TCP_NODELAY
    return pipe


async def _why(failed: NotOpened, address: JobAddress, python: str) -> HostError | NodeGoneError:
    try:
        job = await (await cluster_at(address.through)).ended(address.job)
    except HostError as error:
        return error
    if job.over:
        return NodeGoneError(job.end)
    if "srun: error:" in failed.stderr:
        return UnreachableError(f"no step of {job.name} starts: {refusal(failed.stderr)}")
    return why_not_opened(failed, WayIn(COMMAND, address.words), python)
