"""Find the host of one start. If the chosen host does not answer, connect to the next ones too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from ..errors import AgentError, HostError, NoRoomError
from ..events import Phase
from ..hosts.host import Host
from ..hosts.registry import HostRegistry
from ..kernels.start.starts import starts
from ..options.expected import expected_on
from ..options.launch_request import LaunchRequest
from .inventory import HostSpec, Inventory
from .policies import LoadBalancer
from .scheduler import Scheduler

log = logging.getLogger(__name__)

#: How long a start waits for a connection before it also tries the next host.
_FIRST_SECONDS = 2.0
#: The same when another host of the list is silent.
_NEXT_SECONDS = 0.25
#: Sites block accounts that open many connections at once.
_MOST_CONNECTING = 16
_NOT_NOW = HostError("not now")


class HostSearch:
    """The hosts for one start, one after the other, and the errors of the earlier ones.

    The search does not wait for one host that is down after the other. While the chosen host does
    not answer, the search connects to the next ones as well, and takes the first host that answers,
    as in RFC 8305 (Happy Eyeballs). Later starts use the other connections. At that time no host
    has got a request to start the kernel, so there is never a second kernel.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Scheduler]],
        request: LaunchRequest,
        inventory: Inventory,
        policy: LoadBalancer,
        tried: Mapping[str, HostError],
        *,
        complete: Callable[[HostSpec], HostSpec],
    ) -> None:
        """`complete` fills in a host's missing properties."""
        self._find = find
        self._request = request
        self._inventory = inventory
        self._policy = policy
        self._tried = dict(tried)
        self._complete = complete
        self._scheduler: Scheduler | None = None
        self._turn = 0

    async def next(self) -> HostSpec:
        """The host to try next.

        Raises NoRoomError, the HostError of the only host, or NoHostError with all errors.
        """
        if self._scheduler is None:
            self._scheduler = await self._find()
            self._turn = self._scheduler.table(self._inventory).turn()
        spec = await self._choose({})
        if self.has_another(spec):
            return await self._first_that_answers(spec, self._scheduler.registry)
        return spec

    async def _choose(self, others: Mapping[str, HostError]) -> HostSpec:
        """The policy's choice, without `others`. Raises as `next`."""
        assert self._scheduler is not None
        table = self._scheduler.table(self._inventory)
        without = {**others, **self._tried}
        chosen = self._scheduler.choose(table, self._policy, self._turn, self._request, without)
        return self._complete(await chosen)

    async def _first_that_answers(self, first: HostSpec, registry: HostRegistry) -> HostSpec:
        """Raises as `next`. After the start's time limit it returns `first` all the same."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._request.timeout
        chosen: HostSpec | None = first
        connecting: dict[asyncio.Task[Any], HostSpec] = {}
        answered: set[str] = set()
        try:
            while loop.time() < until:
                seconds = until - loop.time()
                if chosen is not None:
                    host = registry.host(chosen)
                    if host.connected:
                        if connecting:
                            late = ", ".join(spec.name for spec in connecting.values())
                            text = "kernel %s: starts on %s; not connected yet: %s"
                            log.warning(text, self._request.kernel_id, chosen.name, late)
                        return chosen  # with no await since it was chosen
                    starts().note(self._request.kernel_id, Phase.CONNECTING, host=chosen.name)
                    host.expect(expected_on(chosen, self._request))
                    connecting[asyncio.ensure_future(host.link())] = chosen
                    seconds = min(seconds, self._patience(host, registry, len(connecting)))
                # Starts of the same moment must not all choose the host that has no kernel yet.
                with registry.counting(next(iter(connecting.values()))):
                    done, _ = await asyncio.wait(
                        connecting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                    )
                for task in done:
                    spec, error = connecting.pop(task), task.exception()
                    if error is None:
                        answered.add(spec.name)
                    elif isinstance(error, HostError):
                        self.failed(spec, registry.host(spec), error)
                    else:
                        raise error
                chosen = await self._next_choice(answered, connecting.values())
            return first
        finally:
            for task in connecting:
                task.cancel()  # the attempt goes on

    async def _next_choice(
        self, answered: set[str], connecting: Iterable[HostSpec]
    ) -> HostSpec | None:
        """A host that has answered, or the next one to connect to; None to wait for the others.

        Raises as `next`.
        """
        if answered:
            others = self._inventory_names() - answered
            with contextlib.suppress(NoRoomError, HostError):
                return await self._choose(dict.fromkeys(others, _NOT_NOW))
            answered.clear()  # full by now, or lost
        tried_now = {spec.name: _NOT_NOW for spec in connecting}
        if len(tried_now) >= _MOST_CONNECTING:
            return None
        try:
            return await self._choose(tried_now)
        except (NoRoomError, HostError):
            if not tried_now:
                raise
            return None

    def _inventory_names(self) -> set[str]:
        return {spec.name for spec in self._inventory}

    def _patience(self, host: Host, registry: HostRegistry, attempts: int) -> float:
        """How long to wait for this host before the next one is tried as well."""
        if _is_late(host):
            return 0.0
        if attempts > 1 or any(map(_is_silent, map(registry.host, self._inventory))):
            return _NEXT_SECONDS
        return _FIRST_SECONDS

    def has_another(self, spec: HostSpec) -> bool:
        """Whether there is a host to try if `spec` fails."""
        if self._scheduler is None:
            return False
        tried = {**self._tried, spec.name: HostError("not another")}
        return self._scheduler.has_candidate(
            self._scheduler.table(self._inventory), self._request, tried
        )

    def failed(self, spec: HostSpec, host: Host, error: HostError) -> None:
        """Record that this host failed. `next` does not return it again."""
        kernel_id = self._request.kernel_id
        log.warning("kernel %s: not on %s: %s", kernel_id, spec.name, error.message)
        self._tried[spec.name] = error
        said = f"not on {spec.name}: {error.message}"
        starts().note(kernel_id, Phase.PLACING, host="", text=said)
        if isinstance(error, AgentError) and host.connected:  # such as a full disk
            host.open_circuit(error)


def _is_late(host: Host) -> bool:
    """Whether its connection takes longer than a start waits."""
    since = host.connecting_since
    return since is not None and time.monotonic() - since > _FIRST_SECONDS


def _is_silent(host: Host) -> bool:
    return _is_late(host) or (host.circuit is not None and host.circuit.unresponsive)
