"""Place kernels on an engine's nodes: submit, record, and start with the agent that arrives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol

from ..errors import ConfigurationError, HostError, KernelLostError, RemoteProvisionerError
from ..hosts.registry import host_registry
from ..io_thread import in_io_thread, io_thread
from ..kernels.lifecycle import Lifecycle, State
from ..kernels.remote_kernel import RemoteKernel
from ..options.launch_request import LaunchRequest
from ..placement.inventory import HostSpec
from ..placement.placer import Placer, Recorder, StartAttempt
from .base import POLL_SECONDS, Engine, Node
from .deadline import Deadline
from .submission import Submission, Submissions

log = logging.getLogger(__name__)

#: How long an engine may take to say why a kernel ended.
_EXPLAIN_SECONDS = 10.0


class EngineOptions(Protocol):
    """The options that an EnginePlacer reads at each start."""

    network_grace: Any

    def engine(self, request: LaunchRequest | None) -> Engine:
        """The engine for this request, or to end what an earlier one left (None).

        Raises ConfigurationError.
        """


class EnginePlacer(Placer):
    """Places one provisioner's kernels through an engine. Lives on the application's event loop.

    A restarted kernel stays on its node if the node is there (`Engine.node_stays`). Otherwise it
    gets another one.
    """

    def __init__(self, options: EngineOptions, engine_type: type[Engine]) -> None:
        self._options = options
        self._type = engine_type
        #: The key of the node's fields in a record.
        self._key = engine_type.name.lower()
        self.place_stays = engine_type.node_stays
        self._submission: Submission | None = None
        self._node: Node | None = None
        #: The last submission, perhaps of another process.
        self._tag = ""
        self._id = ""
        #: The last life that ended, and the question to the engine why.
        self._explained: tuple[Lifecycle, Future[None]] | None = None
        self._deadline: Deadline | None = None
        self._watching: Future[None] | None = None

    async def start(self, request: LaunchRequest, record: Recorder) -> RemoteKernel:
        self._refuse_pinned(request)
        attempt: StartAttempt | None = None

        async def reserve(attempt: StartAttempt, node: Node) -> RemoteKernel:
            return await attempt.reserve(await host_registry(), _spec(node), node.directory)

        async def undo() -> None:
            if attempt is not None:
                await attempt.abandon()
            await self._undo_submission(request)

        try:
            inside, node = await self._submit(request, record)
            attempt = StartAttempt(inside, self._options.network_grace)
            kernel = await in_io_thread(reserve(attempt, node))
            record({"host": node.host, "agent": node.directory, **self.describe()})
            error = await in_io_thread(attempt.launch())
            if error is not None:
                raise error
            self._watch_end(kernel)
            return kernel
        except BaseException:
            await asyncio.shield(in_io_thread(undo()))
            raise

    async def restart(self, kernel: RemoteKernel, request: LaunchRequest, record: Recorder) -> None:
        self._refuse_pinned(request)

        async def leave() -> None:
            await (await host_registry()).leave(kernel)

        async def launch(inside: LaunchRequest, node: Node) -> None:
            registry = await host_registry()
            registry.move(kernel, _spec(node), node.directory)
            await registry.launch(kernel, inside)

        async def undo(reason: str) -> None:
            if not kernel.life.over:
                kernel.give_up(reason)
            await self._undo_submission(request)

        if self._type.node_stays and await in_io_thread(self._restart_in_place(kernel, request)):
            return
        await in_io_thread(leave())
        try:
            inside, node = await self._submit(request, _no_record)
            await in_io_thread(launch(inside, node))
            self._watch_end(kernel)
        except BaseException as error:
            await asyncio.shield(in_io_thread(undo(str(error))))
            raise

    async def prepare_move(self, name: str) -> None:
        raise ConfigurationError(_chooses(self._type))

    async def prepare_adoption(self, kernel_id: str, info: Mapping[str, Any]) -> RemoteKernel:
        left = dict(info.get(self._key) or {})
        if not left:
            raise HostError(f"the kernel's record does not name its node of {self._type.name}")
        self._tag = left.pop("tag")
        self._id = left.pop("application_id", "")  # the name in earlier versions
        self._id = left.pop("id", self._id)
        if not left:  # it was waiting for a node
            await in_io_thread(self._options.engine(None).cancel(self._tag))
            raise KernelLostError("its server ended while it was waiting for a node")
        node = self._node = self._type.node_type(**left)
        grace = self._options.network_grace

        async def prepare() -> RemoteKernel:
            registry = await host_registry()
            return await registry.prepare_adoption(kernel_id, _spec(node), info, grace)

        kernel = await in_io_thread(prepare())
        self._watch_end(kernel)
        return kernel

    async def abandon(self, request: LaunchRequest | None) -> bool:
        """Tell the engine to end the kernel's job."""
        self._watch_end(None)
        return bool(self._tag) and await in_io_thread(self._cancel(request, self._tag))

    async def _undo_submission(self, request: LaunchRequest) -> None:
        """In the I/O thread, after a start has failed or was cancelled."""
        if self._submission is not None:
            await self._submission.over()  # without a node, it cancels itself
        if self._node is not None:
            await self._cancel(request, self._tag)

    async def _cancel(self, request: LaunchRequest | None, tag: str) -> bool:
        """In the I/O thread. Returns whether it has ended."""
        try:
            await self._options.engine(request).cancel(tag)
        except RemoteProvisionerError as error:
            log.warning("%s: %s did not cancel it: %s", tag, self._type.name, error)
            return False
        return True

    async def _restart_in_place(self, kernel: RemoteKernel, request: LaunchRequest) -> bool:
        """In the I/O thread. False if the node is gone."""
        node, engine = self._node, self._options.engine(request)
        if node is None:
            return False
        if not kernel.host.connected and not await _is_there(engine, self._tag):
            return False
        await kernel.host.until_back(kernel.grace)
        try:
            inside = engine.kernel_request(request, node)
            await (await host_registry()).launch(kernel, inside)
        except (HostError, KernelLostError):
            if await _is_there(engine, self._tag):
                raise
            return False
        return True

    @property
    def seconds_left(self) -> float | None:
        return None if self._deadline is None else self._deadline.seconds_left

    def _watch_end(self, kernel: RemoteKernel | None) -> None:
        """Tell the kernel's users before the engine ends its node; of None, no more."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = self._deadline = None
        if kernel is not None and self.place_stays:
            self._deadline = Deadline(kernel, self._options.engine(None), self._tag)
            self._watching = io_thread().begin(self._deadline.watch())

    def explained(self, kernel: RemoteKernel, manager: Any) -> bool:
        """Ask the engine, once in each life that did not end by itself, whether the node ended."""
        life = kernel.life
        stopping = getattr(manager, "shutting_down", False)
        if stopping or (life.exit_code or 0) >= 0:
            return True
        if not self.place_stays and life.state is not State.LOST:
            return True  # the node ends with its kernel, whose end is known
        if self._explained is None or self._explained[0] is not life:
            self._explained = life, io_thread().begin(self._explain(life))
        return self._explained[1].done()

    async def _explain(self, life: Lifecycle) -> None:
        engine, until = self._options.engine(None), time.monotonic() + _EXPLAIN_SECONDS
        with contextlib.suppress(RemoteProvisionerError, asyncio.TimeoutError):
            while await asyncio.wait_for(_is_there(engine, self._tag), _EXPLAIN_SECONDS):
                if self.place_stays or time.monotonic() > until:
                    return
                # The kernel was lost with its node, which the engine may not know yet.
                await asyncio.sleep(POLL_SECONDS)
            why = await asyncio.wait_for(engine.diagnose(self._tag), _EXPLAIN_SECONDS)
            life.ended_with_node(why)

    def describe(self) -> Mapping[str, Any]:
        """The node for a record. It may contain the launcher's secret."""
        if self._node is None:
            return {}
        return {self._key: {**vars(self._node), "tag": self._tag, "id": self._id}}

    def reason(self, kernel: RemoteKernel | None) -> str:
        waits = self._submission.text if self._submission is not None else ""
        said = super().reason(kernel)
        lost = kernel is not None and kernel.life.state is State.LOST
        if lost and self._id and self._id not in said:
            said = f"{said}; it was {self._id} of {self._type.name}"
        return waits or said

    async def _submit(self, request: LaunchRequest, record: Recorder) -> tuple[LaunchRequest, Node]:
        """A node and the request for its agent. The tag is recorded first, for the next server."""
        self._node, self._id = None, ""

        async def prepare() -> tuple[Engine, Submission]:
            engine = self._options.engine(request)
            return engine, Submission(engine, request)

        engine, submission = await in_io_thread(prepare())
        self._submission, self._tag = submission, submission.launch.tag
        record({"host": self._type.name, self._key: {"tag": self._tag, "id": ""}})

        async def submit() -> tuple[LaunchRequest, Node]:
            await host_registry()  # it closes the connections, after the submissions
            node, seconds = await io_thread().own(Submissions).run(submission)
            self._node, self._id = node, submission.id
            return replace(engine.kernel_request(request, node), timeout=seconds), node

        return await in_io_thread(submit())

    def _refuse_pinned(self, request: LaunchRequest) -> None:
        if request.pinned_host:
            raise ConfigurationError(_chooses(self._type))


def _no_record(where: Mapping[str, Any]) -> None:
    """Do nothing: a restart keeps the kernel's record, with which the next server completes it.

    A node that no server knows ends a minute after it has begun.
    """


async def _is_there(engine: Engine, tag: str) -> bool:
    """Whether the node of a submission may still be reached."""
    try:
        progress = await engine.follow(tag)
    except HostError:  # the engine is away, and perhaps not the node
        return True
    return progress is not None and not progress.over


def _chooses(engine: type[Engine]) -> str:
    return f"{engine.name} chooses the node of a kernel: a request cannot name a host"


def _spec(node: Node) -> HostSpec:
    return HostSpec(node.host, node.address, python=node.python)
