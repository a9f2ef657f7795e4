"""Place kernels on a list of hosts: the policy chooses, and the first host that works wins."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..errors import HostError
from ..hosts.registry import host_registry
from ..io_thread import Call, in_io_thread
from ..kernels.remote_kernel import RemoteKernel
from ..options.launch_request import LaunchRequest
from .host_search import HostSearch
from .inventory import HostSpec, Inventory
from .placer import Placer, Recorder, StartAttempt
from .policies import load_balancer
from .scheduler import Scheduler, scheduler

log = logging.getLogger(__name__)


class HostOptions(Protocol):
    """The options that a HostPlacer reads at each start."""

    load_balancing_algorithm: Any
    network_grace: Any
    lease: Any

    def inventory(self) -> Inventory:
        """The hosts."""

    def host_spec(self, name: str) -> HostSpec:
        """The host written as `name`, which need not be in the list."""

    def completed(self, spec: HostSpec) -> HostSpec:
        """Fill in a host's missing properties from the options for all hosts."""


@dataclass(frozen=True)
class PendingKill:
    """A host where a process of the kernel may still run, as a record names it."""

    host: str
    #: The directory of its agent.
    agent: str
    #: Seconds since the epoch.
    since: float

    @classmethod
    def read(cls, found: Any) -> PendingKill | None:
        """None for what is no such thing."""
        with contextlib.suppress(TypeError, KeyError, ValueError):
            return cls(str(found["host"]), str(found["agent"]), float(found["since"]))
        return None


class HostPlacer(Placer):
    """Places the kernels of one provisioner on hosts. Lives on the application's event loop."""

    def __init__(
        self,
        options: HostOptions,
        io: Call = in_io_thread,
        find_scheduler: Callable[[], Awaitable[Scheduler]] = scheduler,
    ) -> None:
        self._options = options
        self._io = io
        self._find_scheduler = find_scheduler
        #: The host for the next restart; "" for the current one.
        self._destination = ""
        #: Hosts where a kill of the kernel is pending since it went elsewhere.
        self._pending_kills: dict[str, PendingKill] = {}

    async def start(self, request: LaunchRequest, record: Recorder) -> RemoteKernel:
        """Use only the host that the request names. If it names none, use one of the list."""
        attempt = StartAttempt(request, self._options.network_grace)
        try:
            if request.pinned_host:
                spec = self._options.host_spec(request.pinned_host)
                return await self._launch_on(spec, attempt, record)
            return await self._launch_on_one(attempt, self._search(request, {}), record)
        except BaseException:
            await asyncio.shield(self._io(attempt.abandon()))
            raise

    async def restart(self, kernel: RemoteKernel, request: LaunchRequest, record: Recorder) -> None:
        """Restart on the same host. If it is away, wait for it until the grace is over.

        Then the kernel moves to another host, unless the request pins it. After `prepare_move`
        it moves at once.
        """
        destination, self._destination = self._destination, ""
        if destination and destination != kernel.spec.name:
            await self._move(kernel, destination, request, record)
            return
        error = await self._io(self._restart_in_place(kernel, request))
        if error is not None:
            attempt = StartAttempt(request, kernel.grace, kernel)
            search = self._search(request, {kernel.spec.name: error})
            await self._launch_on_one(attempt, search, record)

    @property
    def moves(self) -> bool:  # type: ignore[override]
        return bool(self._destination)

    async def prepare_move(self, name: str) -> None:
        spec = self._options.host_spec(name)

        async def connect() -> None:
            await (await self._find_scheduler()).registry.host(spec).link()

        await self._io(connect())
        self._destination = spec.name

    async def prepare_adoption(self, kernel_id: str, info: Mapping[str, Any]) -> RemoteKernel:
        """Also end what an earlier server could not end on other hosts."""
        spec, grace = self._options.host_spec(info["host"]), self._options.network_grace
        recorded = [PendingKill.read(each) for each in info.get("pending_kills", ())]
        oldest = time.time() - self._options.lease  # the others have ended by themselves
        self._pending_kills = {
            each.host: each
            for each in recorded
            if each is not None and each.host != spec.name and each.since > oldest
        }

        async def prepare() -> RemoteKernel:
            registry = await host_registry()
            for each in self._pending_kills.values():
                registry.kill_on(kernel_id, self._options.host_spec(each.host), each.agent)
            return await registry.prepare_adoption(kernel_id, spec, info, grace)

        return await self._io(prepare())

    async def abandon(self, request: LaunchRequest | None) -> bool:
        """Do nothing. The kernel is ended when its host can be reached."""
        return False

    def describe(self) -> Mapping[str, Any]:
        """Name the hosts where a kill is pending, for the next server."""
        pending = [asdict(each) for each in self._pending_kills.values()]
        return {"pending_kills": pending} if pending else {}

    # -- one start --------------------------------------------------------------------------

    async def _launch_on_one(
        self, attempt: StartAttempt, search: HostSearch, record: Recorder
    ) -> RemoteKernel:
        """Choose a host, record it and launch. Repeat as long as the host is to blame."""
        error: HostError | None = None
        while True:
            kernel = await self._io(self._choose(attempt, search, error))
            record({"host": kernel.spec.name, **self.describe()})
            error = await self._io(attempt.launch())
            if error is None:
                return kernel

    async def _choose(
        self, attempt: StartAttempt, search: HostSearch, error: HostError | None
    ) -> RemoteKernel:
        """In the I/O thread. No await separates choosing a host from counting the kernel there."""
        if error is not None and attempt.kernel is not None:
            search.failed(attempt.kernel.spec, attempt.kernel.host, error)
        if attempt.kernel is not None:
            self._note_pending_kill(attempt.kernel)
        registry = (await self._find_scheduler()).registry
        spec = await search.next()
        attempt.patient = not search.has_another(spec)
        self._pending_kills.pop(spec.name, None)
        return await attempt.reserve(registry, spec)

    def _note_pending_kill(self, kernel: RemoteKernel) -> None:
        """In the I/O thread, before the kernel goes to another host."""
        if kernel.host.has_pending_kill(kernel.kernel_id):
            place = PendingKill(kernel.spec.name, kernel.host.directory, time.time())
            self._pending_kills[kernel.spec.name] = place

    async def _move(
        self, kernel: RemoteKernel, name: str, request: LaunchRequest, record: Recorder
    ) -> None:
        async def leave() -> None:
            await (await self._find_scheduler()).registry.leave(kernel)
            self._note_pending_kill(kernel)

        async def undo() -> None:
            if not kernel.life.over:  # it waits for a place that it does not get
                kernel.give_up(f"it could not move to {name}")

        try:
            await self._io(leave())
            spec = self._options.host_spec(name)
            await self._launch_on(spec, StartAttempt(request, kernel.grace, kernel), record)
        except BaseException:
            await asyncio.shield(self._io(undo()))
            raise

    async def _launch_on(
        self, spec: HostSpec, attempt: StartAttempt, record: Recorder
    ) -> RemoteKernel:
        async def reserve() -> RemoteKernel:
            return await attempt.reserve((await self._find_scheduler()).registry, spec)

        self._pending_kills.pop(spec.name, None)
        kernel = await self._io(reserve())
        record({"host": kernel.spec.name, **self.describe()})
        error = await self._io(attempt.launch())
        if error is not None:
            raise error
        return kernel

    def _search(self, request: LaunchRequest, tried: Mapping[str, HostError]) -> HostSearch:
        policy = load_balancer(self._options.load_balancing_algorithm)
        inventory, complete = self._options.inventory(), self._options.completed
        return HostSearch(
            self._find_scheduler, request, inventory, policy, tried, complete=complete
        )

    async def _restart_in_place(
        self, kernel: RemoteKernel, request: LaunchRequest
    ) -> HostError | None:
        """In the I/O thread. Returns an error if the kernel has to move because of it."""
        registry, host = (await self._find_scheduler()).registry, kernel.host
        await host.until_back(kernel.grace)
        kernel.patient = True
        try:
            await registry.launch(kernel, request)
        except HostError as error:
            if request.pinned_host or host.connected:
                raise
            log.warning("kernel %s: moves to another host: %s", kernel.kernel_id, error)
            return error
        return None
