"""Looks at hosts, again and again, over connections that are kept. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from ...errors import HostError, RemoteProvisionerError, UnknownHostError, UnreachableError
from ...hosts.host import Host
from ...hosts.registry import host_registry
from ...protocol.messages import GetStatus
from ..configured import ConfiguredHost
from .status import DOWN, MISCONFIGURED, UNUSABLE, UP, HostStatus

#: Hosts that are asked at the same time, those not counted that have kept us waiting for so long:
#: they cost nothing but time, of which the others shall have theirs.
_AT_ONCE = 50
_PATIENCE_SECONDS = 1.0
#: Connecting gives up itself after 5 seconds where nothing answers, where the login takes too long
#: after 15 more; other steps wait longer.
_CONNECT_SECONDS = 21.0
_ANSWER_SECONDS = 2.0


class Survey:
    """Of these hosts, one look at all of them at a time.

    `again`: looks will follow; hosts that fail are tried again meanwhile.
    """

    def __init__(self, places: Iterable[ConfiguredHost], again: bool) -> None:
        self._observers = [_Observer(place, again) for place in _merged(places)]
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def look(self) -> list[HostStatus]:
        """Connect to who is not connected, ask everybody. The first look is the slow one."""
        return await asyncio.gather(*(seen.look(self._slots) for seen in self._observers))


@asynccontextmanager
async def _slot(slots: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of `slots`, given back in the end, or after a while."""
    await slots.acquire()
    with ExitStack() as held:
        held.callback(slots.release)
        timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, held.close)
        held.callback(timer.cancel)
        yield


def _merged(places: Iterable[ConfiguredHost]) -> list[ConfiguredHost]:
    """An address once: kernelspecs may name it with different interpreters and the like."""
    merged: dict[object, ConfiguredHost] = {}
    for place in places:
        key = (place.host.name, place.error) if place.error else place.host.address
        if (earlier := merged.get(key)) is not None:
            gpus = tuple(dict.fromkeys(earlier.host.gpus + place.host.gpus))
            specs = tuple(dict.fromkeys(earlier.kernelspecs + place.kernelspecs))
            place = replace(earlier, host=replace(earlier.host, gpus=gpus), kernelspecs=specs)  # noqa: PLW2901
        merged[key] = place
    return list(merged.values())


class _Observer:
    """One host, and what was seen of it last."""

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
        #: When connecting began, as long as it lasts and we have waited for all of it.
        self._began: float | None = None
        self._connecting: float | None = None

    async def look(self, slots: asyncio.Semaphore) -> HostStatus:
        if self._place.error:
            return self._status
        host = (await host_registry()).host(self._place.host)
        async with _slot(slots):
            await self._look(host)
        if not self._again and not host.connected:
            await host.close()  # no further attempts in the background
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
        """What the agent says, in the last status. Raises HostError."""
        if host.circuit is not None:  # it is tried again in the background, ever more rarely
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
