"""Looks at hosts over connections that stay open. A `Survey` lives in the I/O thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from ...errors import HostError, RemoteProvisionerError, UnknownHostError, UnreachableError
from ...hosts.host import Host
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...protocol.agent_requests import GetStatus
from ..configured import ConfiguredHost
from .status import DOWN, MISCONFIGURED, UNUSABLE, UP, HostStatus

#: The number of hosts to ask at the same time. A host that takes longer than the patience stops
#: counting, so that slow hosts do not hold up the others.
_AT_ONCE = 50
_PATIENCE_SECONDS = 1.0
#: Connecting fails by itself after 5 seconds without an answer, or 15 more for a slow login. Other
#: steps may wait longer.
_CONNECT_SECONDS = 21.0
_ANSWER_SECONDS = 2.0

Seen = Callable[[HostStatus], None]


class Survey:
    """Looks at all of these hosts at once.

    `again`: more looks will follow, so failed hosts are retried in the background.
    """

    def __init__(self, places: Iterable[ConfiguredHost], again: bool) -> None:
        self._observers = [_Observer(place, again) for place in merged(places)]
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def look(self, seen: Seen = lambda status: None) -> list[HostStatus]:
        """Connect to hosts that are not connected and ask all. The first look is the slow one.

        `seen` gets each status as soon as it is known; the result is in the order of the hosts.
        """

        async def look(observer: _Observer) -> HostStatus:
            status = await observer.look(self._slots)
            seen(status)
            return status

        return await asyncio.gather(*map(look, self._observers))


async def as_they_answer(places: Iterable[ConfiguredHost]) -> AsyncIterator[HostStatus]:
    """Look once at all hosts, from another event loop than that of the I/O thread."""
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[HostStatus | None] = asyncio.Queue()

    def seen(status: HostStatus) -> None:
        loop.call_soon_threadsafe(answers.put_nowait, status)

    async def look() -> None:
        await Survey(places, again=False).look(seen)

    looking = asyncio.ensure_future(io_thread().call(look()))
    looking.add_done_callback(lambda _: answers.put_nowait(None))
    while (status := await answers.get()) is not None:
        yield status
    await looking


@asynccontextmanager
async def _slot(slots: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold one of `slots` until the end, or until the patience is over."""
    await slots.acquire()
    with ExitStack() as held:
        held.callback(slots.release)
        timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, held.close)
        held.callback(timer.cancel)
        yield


def merged(places: Iterable[ConfiguredHost]) -> list[ConfiguredHost]:
    """Each address once. Kernelspecs may name it with different interpreters, for example."""
    found: dict[object, ConfiguredHost] = {}
    for place in places:
        key = (place.host.name, place.error) if place.error else place.host.address
        if (earlier := found.get(key)) is not None:
            gpus = tuple(dict.fromkeys(earlier.host.gpus + place.host.gpus))
            specs = tuple(dict.fromkeys(earlier.kernelspecs + place.kernelspecs))
            place = replace(earlier, host=replace(earlier.host, gpus=gpus), kernelspecs=specs)  # noqa: PLW2901
        found[key] = place
    return list(found.values())


class _Observer:
    """One host and its latest status."""

    def __init__(self, place: ConfiguredHost, again: bool) -> None:
        self._place = place
        self._again = again
        self._status = HostStatus(
            host=place.host.name,
            kernelspecs=place.kernelspecs,
            state=MISCONFIGURED,
            since=time.time(),
            error=_one_line(place.error),
            failed=time.time() if place.error else None,
            gpus=place.host.gpus,
        )
        #: When connecting began; None unless we have been waiting since then.
        self._began: float | None = None
        self._connecting: float | None = None

    async def look(self, slots: asyncio.Semaphore) -> HostStatus:
        if self._place.error:
            return self._status
        host = (await host_registry()).host(self._place.host)
        async with _slot(slots):
            await self._look(host)
        if not self._again and not host.connected:
            await host.close()  # no more attempts in the background
        return self._status

    async def _look(self, host: Host) -> None:
        seconds = _ANSWER_SECONDS if host.connected else _CONNECT_SECONDS
        try:
            seen = await asyncio.wait_for(self._ask(host), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            self._failed(DOWN, f"no answer within {seconds:.0f} s")
        except (UnreachableError, UnknownHostError) as error:
            self._failed(DOWN, error.message)
        except RemoteProvisionerError as error:
            self._failed(UNUSABLE, error.message)
        else:
            self._changed(UP, seen)

    async def _ask(self, host: Host) -> HostStatus:
        """The last status, updated with the agent's answer. Raises HostError."""
        if host.circuit is not None:  # it is retried in the background, less and less often
            self._began = self._connecting = None
            raise host.circuit.error
        if not host.connected and self._began is None:
            self._began = time.perf_counter()
        try:
            await host.link()
        except HostError:
            self._began = None
            raise
        if self._began is not None:
            self._connecting, self._began = time.perf_counter() - self._began, None
        answer = await host.request(GetStatus())
        return replace(
            self._status,
            connecting=self._connecting,
            agent=answer.agent.fields(),
            load=answer.load.fields(),
            kernels=[kernel.fields() for kernel in answer.kernels],
        )

    def _failed(self, state: str, error: str) -> None:
        status = self._status
        if (status.state, status.error) != (state, _one_line(error)):
            status = replace(status, error=_one_line(error), failed=time.time())
        self._changed(state, replace(status, connecting=None, agent={}, load={}, kernels=()))

    def _changed(self, state: str, status: HostStatus) -> None:
        since = status.since if state == status.state else time.time()
        self._status = replace(status, state=state, since=since)


def _one_line(text: str) -> str:
    return " ".join(text.split())
