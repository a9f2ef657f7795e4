"""Slurm as an engine: a batch job holds the allocation and the agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...errors import HostError
from ...options.expected import expected_kernel
from ...options.launch_request import LaunchRequest
from ...placement.host_address import HostAddress
from ...placement.policies import Requirements
from ...placement.way_in import WayIn
from ..base import Engine, Launch, Node, Progress
from . import health
from .address import JobAddress
from .cluster import Cluster, cluster_at
from .connection import step_words
from .reasons import read_seconds
from .request import JobOptions
from .script import batch_script


@dataclass(frozen=True)
class SlurmNode(Node):
    """The first node of a job."""

    job: str
    #: The host that submitted it, as JSON.
    login: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> HostAddress:
        words = step_words(self.job)
        return JobAddress(self.host, through=_read(self.login), words=words, job=self.job)


def _read(login: Mapping[str, Any]) -> HostAddress:
    way = dict(login["way"])
    for name in ("command", "become"):
        way[name] = tuple(way[name])
    return HostAddress(**{**login, "way": WayIn(**way)})


class SlurmEngine(Engine):
    """Slurm for one request."""

    name = "Slurm"
    node_type = SlurmNode
    node_stays = True
    queue_option = "slurm_queue_timeout"

    def __init__(self, login: HostAddress, options: JobOptions, python: str) -> None:
        self._login = login
        self._options = options
        self._python = python

    async def check(self) -> None:
        await (await self._cluster()).check()

    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        cluster = await self._cluster()
        directory = f"/tmp/remote-provisioners-{secrets.token_hex(6)}"  # noqa: S108 # new, and ours
        request, python = launch.request, self._python or "python3"
        expected = expected_kernel(request.argv, request.env, python)
        script = batch_script(directory, python, self._options.lines, expected)
        comment = f"Jupyter kernel {request.kernel_id} of {os.uname().nodename}"
        options = self._options.words(launch.tag, comment)
        submitting = asyncio.ensure_future(cluster.submit(launch.tag, options, script))
        try:
            job = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # it may have been submitted all the same
                await submitting
                await cluster.cancel(launch.tag)
            raise
        cluster.watch(job)
        return asyncio.ensure_future(self._arrive(cluster, job, f"{directory}/agent"))

    async def _arrive(self, cluster: Cluster, job: str, directory: str) -> Node:
        started = await cluster.started(job)
        if not started.runs:
            await asyncio.Event().wait()  # `follow` tells that it is over
        cluster.forget(job)
        python = self._python or "python3"
        return SlurmNode(started.node, directory, python, "", job, asdict(self._login))

    async def follow(self, tag: str) -> Progress | None:
        cluster = await self._cluster()
        job_id = await cluster.named(tag)
        if not job_id:
            return Progress("", over=True)
        job = cluster.known(job_id)
        if job is None and cluster.follows(job_id):
            return Progress(f"job {job_id}", cluster.trouble, queued=True)
        if job is None:
            job = await cluster.ask(job_id)
        over = job.over or bool(job.hopeless)
        text = job.progress()
        if cluster.trouble and job.waits:
            text = f"{job.name}: {cluster.trouble}"
        return Progress(job.name, text, over, queued=job.waits)

    async def changed(self, tag: str) -> None:
        cluster = await self._cluster()
        await cluster.changed(await cluster.named(tag))

    async def cancel(self, tag: str) -> None:
        await (await self._cluster()).cancel(tag)

    async def diagnose(self, tag: str) -> str:
        cluster = await self._cluster()
        job_id = await cluster.named(tag)
        job = cluster.known(job_id)
        if job is not None and job.hopeless:
            return job.end
        return (await cluster.ended(job_id)).end

    async def seconds_left(self, tag: str) -> float | None:
        cluster = await self._cluster()
        try:
            job = await cluster.look(await cluster.named(tag))
        except HostError:
            return None
        return read_seconds(job.left) if job is not None and job.runs else None

    def checks(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        async def login() -> str:
            await self.check()
            return "this machine" if self._login.is_local else f"connected to {self._login}"

        async def programs() -> str:
            return await health.version(await self._cluster())

        async def controller() -> str:
            return await health.ping(await self._cluster())

        async def partition() -> str:
            return await health.partition(await self._cluster(), self._options.partition)

        steps = (login, programs, controller, partition)
        return [(step.__name__, step) for step in steps]

    async def _cluster(self) -> Cluster:
        return await cluster_at(self._login)

    def kernel_request(self, request: LaunchRequest, node: Node) -> LaunchRequest:
        """Without GPUs: Slurm has given the job its devices."""
        return replace(super().kernel_request(request, node), requirements=Requirements())
