"""A cluster through Slurm's programs, on this machine or on a login node. In the I/O thread.

One squeue asks for all waiting jobs of this process. The interval is an eighth of the time that a
job has waited. Running jobs are not asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import AgentError, HostError, KernelStartError, UnreachableError
from ...hosts.gateways import Gateways, gateways
from ...hosts.registry import host_registry
from ...hosts.transport import Completed
from ...placement.host_address import HostAddress
from .reasons import GONE, QUEUE_FORMAT, Job, away, read_job, read_queue, refusal

log = logging.getLogger(__name__)

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.03, 15.0
_SHARE_OF_WAIT = 0.125
#: squeue may take at most this share of the time, such as on a login node far away.
_SHARE_OF_TIME = 0.25
_PROGRAM_SECONDS = 15.0
#: How long squeue's answer about running jobs is used.
_LOOK_SECONDS = 2.0
#: How long to wait for the end of a cancelled job, and how often to ask for it.
_CANCEL_SECONDS, _CANCEL_POLL_SECONDS = 10.0, 0.1
#: How long to wait until Slurm says how a job has ended, and how often to ask.
_END_SECONDS, _END_POLL_SECONDS = 8.0, 0.1
#: squeue's words for a job that Slurm has forgotten.
_UNKNOWN = "Invalid job id"
# These directories of the submit host may not exist on a node.
_WITHOUT = ("env", "-u", "TMPDIR", "-u", "XDG_RUNTIME_DIR")


@dataclass(eq=False)
class _Watched:
    since: float
    job: Job | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def due(self, last: float) -> float:
        """The time of the next question, if the previous one was at `last`."""
        waited = (last - self.since) * _SHARE_OF_WAIT
        return last + min(max(waited, _SHORTEST_SECONDS), _LONGEST_SECONDS)


class Cluster:
    """A cluster, as one login node (or this machine) shows it."""

    def __init__(self, login: HostAddress, hosts: Gateways) -> None:
        self.login = login
        self._hosts = hosts
        self._watched: dict[str, _Watched] = {}
        #: The ids of jobs by their names, until they are cancelled.
        self._ids: dict[str, str] = {}
        #: Running jobs that `look` was called for, as squeue showed them.
        self._looked_at: dict[str, Job] = {}
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._new = asyncio.Event()
        #: Why the last squeue failed; "" if it did not.
        self.trouble = ""

    async def check(self) -> None:
        """Connect to the login node, for a start. Raises HostError."""
        await self._hosts.open(self.login, asked=True)

    # -- programs ---------------------------------------------------------------------------

    async def submit(self, name: str, options: Sequence[str], script: bytes) -> str:
        """Submit a job with this name. Returns its id.

        Raises KernelStartError if Slurm refuses the job, HostError.
        """
        done = await self.run([*_WITHOUT, "sbatch", "--parsable", *options], script)
        words = done.stdout.decode("utf-8", "replace").split()
        job = words[-1].partition(";")[0] if words else ""
        if done.returncode or not job.isdigit():
            said = refusal(done.stderr.decode("utf-8", "replace"))
            raise KernelStartError(f"Slurm refused the job: {said}")
        self._ids[name] = job
        return job

    async def ask(self, job: str) -> Job:
        """The job as it is now. Raises HostError."""
        done = await self.run(["scontrol", "-o", "show", "job", job])
        return read_job(done.stdout.decode("utf-8", "replace")) or Job(job, GONE)

    async def ended(self, job: str) -> Job:
        """Wait until Slurm says how the job ended, at most a while. Raises HostError."""
        until = time.monotonic() + _END_SECONDS
        while True:
            found = await self.ask(job) if job else Job("?", GONE)
            if found.final or not found.over or time.monotonic() > until:
                return found
            await asyncio.sleep(_END_POLL_SECONDS)

    async def named(self, name: str) -> str:
        """The id of the job with this name; "" if Slurm knows none."""
        if name not in self._ids:
            words = ["squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i"]
            done = await self.run(words)
            found = done.stdout.decode("ascii", "replace").split()
            if not found:
                return ""
            self._ids[name] = found[-1]
        return self._ids[name]

    async def cancel(self, name: str) -> None:
        """End the job with this name in any state, and wait for its end. Raises HostError."""
        job = await self.named(name)
        self.forget(job)
        until = time.monotonic() + _CANCEL_SECONDS
        while job:
            try:
                await self.run(["scancel", job])
                state = (await self._queue([job])).get(job, Job(job, GONE))
            except UnreachableError:  # a busy controller may answer the next time
                if time.monotonic() > until:
                    raise
            else:
                if state.final:
                    break
                if time.monotonic() > until:
                    raise UnreachableError(f"{state.name} is still {state.state.lower()}")
            await asyncio.sleep(_CANCEL_POLL_SECONDS)
        self._ids.pop(name, None)

    async def _queue(self, jobs: Sequence[str]) -> dict[str, Job]:
        words = ["squeue", "--noheader", "--states=all", f"--jobs={','.join(jobs)}"]
        done = await self.run([*words, f"--format={QUEUE_FORMAT}"])
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode and _UNKNOWN not in said:
            raise UnreachableError(f"squeue failed: {refusal(said)}", host=self._place)
        return read_queue(done.stdout.decode("utf-8", "replace"))

    async def run(self, argv: Sequence[str], stdin: bytes = b"") -> Completed:
        """Run one of Slurm's programs. Raises UnreachableError if the controller does not answer,
        AgentError if the program is not there.
        """
        try:
            done = await self._hosts.run(self.login, argv, stdin, _PROGRAM_SECONDS)
        except AgentError:
            done = Completed(127, b"", b"")
        program = next(word for word in argv if word[0] != "-" and word not in (*_WITHOUT,))
        if done.returncode == 127:
            raise AgentError(
                f"there is no program {program!r}.\n"
                "Set the option `slurm_login` to a machine with Slurm's programs.",
                host=self._place,
            )
        if done.returncode and (line := away(done.stderr.decode("utf-8", "replace"))):
            raise UnreachableError(f"Slurm's controller does not answer ({line})", host=self._place)
        return done

    @property
    def _place(self) -> str:
        return "" if self.login.is_local else str(self.login)

    # -- following --------------------------------------------------------------------------

    def watch(self, job: str) -> None:
        """Follow a job until it runs or is over, or until `forget`."""
        self._watched[job] = _Watched(time.monotonic())
        self._new.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._follow())

    def forget(self, job: str) -> None:
        watched = self._watched.pop(job, None)
        if watched is not None:
            watched.changed.set()

    def known(self, job: str) -> Job | None:
        """The job as it was seen last; None before that."""
        watched = self._watched.get(job)
        return watched.job if watched is not None else None

    def follows(self, job: str) -> bool:
        return job in self._watched

    async def look(self, job: str) -> Job | None:
        """A running job with its remaining time. Raises HostError.

        One squeue asks for all jobs that `look` was called for. Its answer serves all callers for
        a while.
        """
        async with self._looking:
            old = time.monotonic() - self._looked > _LOOK_SECONDS
            if old or job not in self._looked_at:
                jobs = [*self._looked_at, job]
                found = await self._queue(list(dict.fromkeys(jobs)))
                self._looked_at = {j: seen for j, seen in found.items() if seen.runs or j == job}
                self._looked = time.monotonic()
            return self._looked_at.get(job)

    async def changed(self, job: str) -> None:
        """Wait for the next change of a followed job."""
        watched = self._watched.get(job)
        if watched is not None:
            watched.changed.clear()
            await watched.changed.wait()

    async def started(self, job: str) -> Job:
        """Wait until a followed job runs or is over."""
        while True:
            found = self.known(job)
            if found is not None and (found.runs or found.over):
                return found
            await self.changed(job)
            if job not in self._watched:
                return Job(job, GONE)

    async def _follow(self) -> None:
        took = 0.0
        try:
            while waiting := [j for j, w in self._watched.items() if _unknown(w.job)]:
                self._new.clear()
                began = time.monotonic()
                await self._look(waiting)
                ended = time.monotonic()
                took = ended - began
                left = [w for w in self._watched.values() if _unknown(w.job)]
                until = min((w.due(began) for w in left), default=ended)
                pause = max(until - ended, took * (1 / _SHARE_OF_TIME - 1)) if left else 0.0
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._new.wait(), pause)
        finally:
            self._task = None

    async def _look(self, jobs: Sequence[str]) -> None:
        try:
            found = await self._queue(jobs)
            trouble = ""
        except HostError as error:
            found, trouble = {}, error.message
        news = trouble != self.trouble
        self.trouble = trouble
        for job in jobs:
            watched = self._watched.get(job)
            if watched is None:
                continue
            seen = watched.job if trouble else found.get(job, Job(job, GONE))
            if news or seen != watched.job:
                watched.job = seen
                watched.changed.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _unknown(job: Job | None) -> bool:
    """Whether to ask for this job: it waits, as far as we know."""
    return job is None or not (job.runs or job.over)


class Clusters:
    """The clusters of this process by login node."""

    def __init__(self) -> None:
        self._clusters: dict[HostAddress, Cluster] = {}

    def get(self, login: HostAddress, hosts: Gateways) -> Cluster:
        if login not in self._clusters:
            self._clusters[login] = Cluster(login, hosts)
        return self._clusters[login]

    async def close(self) -> None:
        for cluster in self._clusters.values():
            await cluster.close()


async def cluster_at(login: HostAddress) -> Cluster:
    """The cluster that this host submits to."""
    hosts = await gateways()
    return (await host_registry()).beside(Clusters).get(login, hosts)
