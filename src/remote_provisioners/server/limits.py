"""Watches for kernels that will soon be ended, or be counted as lost, by a limit.

Three limits end a kernel that nobody shuts down: the lease of a kernel whose server is away, the
grace of a host that is away, and the time limit of the engine that started the kernel's node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..kernels.remote_kernel import RemoteKernel
from .hooks.kernel import kernel_of, kernels_of

#: A limit is told of when this much is left, or a quarter of a limit that is shorter.
WARN_SECONDS = 900.0
_LOOK_SECONDS = 2.0

GRACE, LEASE, TIME_LIMIT = "grace", "lease", "time limit"


@dataclass(frozen=True)
class Limit:
    """`left` seconds of a limit; `whole`: of all of it, None if that is unknown."""

    name: str
    left: float
    whole: float | None = None

    @property
    def near(self) -> bool:
        quarter = WARN_SECONDS if self.whole is None else self.whole / 4
        return self.left <= min(WARN_SECONDS, quarter)


def limits_of_absence(kernel: RemoteKernel, now: float) -> Iterator[Limit]:
    """The limits of a kernel whose host is away. `now`: by the monotonic clock."""
    life = kernel.life
    left = life.grace_left(now, kernel.grace)
    if not life.unreachable or left is None or life.unreachable_since is None:
        return
    yield Limit(GRACE, left, kernel.grace)
    if kernel.lease is not None:
        # The host counts from when it lost our connection, about the time when we lost it.
        yield Limit(LEASE, life.unreachable_since + kernel.lease - now, kernel.lease)


class LimitWatch:
    """Tells of each limit of a kernel that comes near, once. Lives on the server's loop."""

    def __init__(self, manager: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._manager = manager
        self._loop = loop
        self._told: set[tuple[str, str]] = set()
        self._looking: asyncio.Task[None] | None = None

    def follow(
        self,
        kernels: Callable[[], Awaitable[Iterable[RemoteKernel]]],
        tell: Callable[[RemoteKernel, Limit], Awaitable[None]],
    ) -> None:
        """Begin to look at `kernels`, those of this process."""

        def look() -> None:
            if self._looking is None or self._looking.done():
                self._looking = self._loop.create_task(self._look(kernels, tell))
            self._loop.call_later(_LOOK_SECONDS, look)

        self._loop.call_later(_LOOK_SECONDS, look)

    def time_left(self, kernel_id: str) -> float | None:
        """The seconds until the engine ends the kernel, as it last said."""
        provisioner = getattr(kernel_of(self._manager, kernel_id), "provisioner", None)
        return getattr(getattr(provisioner, "placer", None), "seconds_left", None)

    async def _look(self, kernels: Any, tell: Any) -> None:
        ours = {kernel_id for kernel_id, _ in kernels_of(self._manager)}
        near: set[tuple[str, str]] = set()
        for kernel in await kernels():
            if kernel.kernel_id not in ours:
                continue
            for limit in self._limits(kernel):
                if limit.near:
                    near.add((kernel.kernel_id, limit.name))
                    if (kernel.kernel_id, limit.name) not in self._told:
                        await tell(kernel, limit)
        self._told = near  # a limit that was near, and comes near again, is told of again

    def _limits(self, kernel: RemoteKernel) -> Iterator[Limit]:
        yield from limits_of_absence(kernel, time.monotonic())
        left = self.time_left(kernel.kernel_id)
        if left is not None and not kernel.life.over:
            yield Limit(TIME_LIMIT, left)
