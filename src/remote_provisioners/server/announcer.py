"""Emits Jupyter Server events for changes of hosts, starts and kernels.

It learns of changes in the I/O thread, and emits events on the server's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..events import (
    Event,
    HostChanged,
    HostForgotten,
    KernelChanged,
    KernelForgotten,
    KernelMoved,
    OutputDropped,
    StartProgress,
    events,
)
from ..hosts.host import Host
from ..kernels.lifecycle import State
from ..kernels.remote_kernel import RemoteKernel
from ..placement.host_address import HostAddress
from .limits import Limit
from .view.models import Model, UnknownNameError, host_state, start_model

#: Changes of one host within this time are one event.
_GATHER_SECONDS = 0.05

Say = Callable[[str, Model], None]

_OF_STATES = {
    State.STARTING: "starting",
    State.LAUNCHED: "launched",
    State.RUNNING: "running",
    State.UNREACHABLE: "unreachable",
    State.UNADOPTED: "unreachable",
    State.EXITED: "exited",
    State.LOST: "lost",
}


@dataclass(frozen=True)
class _Seen:
    state: str
    since: float


class Announcer:
    """Calls `say` with the name of a schema (host, kernel, start) and the event's data."""

    def __init__(self, loop: asyncio.AbstractEventLoop, say: Say) -> None:
        self._loop = loop
        self._say = say
        self._hosts: dict[HostAddress, _Seen] = {}
        self._kernels: dict[str, State] = {}
        self._notebooks: dict[str, Model | None] = {}
        self._changed: set[Host] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._models: Any = None
        self._stop: Callable[[], None] = lambda: None

    def follow(self, view: Any) -> None:
        """Begin to emit events; `view` makes their models."""
        self._models = view
        self._stop = events.listen(self._heard)

    def since(self, address: HostAddress) -> float | None:
        """When a host entered its present state; None if its state has never changed."""
        seen = self._hosts.get(address)
        return seen.since if seen is not None else None

    async def session_changed(self, _: str) -> None:
        """Emit an event for each kernel whose notebook is another one or has a new name.

        Later: the request that has changed a session does not wait for that.
        """
        self._spawn(self._say_notebooks())

    async def _say_notebooks(self) -> None:
        for kernel_id, notebook in (await self._models.notebooks()).items():
            if notebook != self._notebooks.get(kernel_id):
                self._notebooks[kernel_id] = notebook
                with contextlib.suppress(UnknownNameError):  # it has just been shut down
                    model = await self._models.kernel(kernel_id)
                    self._say("kernel", {"change": "session", "kernel": model})

    async def limit_near(self, kernel: RemoteKernel, limit: Limit) -> None:
        """Emit an event for a limit that will soon end the kernel."""
        left = round(limit.left, 1)
        await self._say_kernel(kernel, "ends soon", limit=limit.name, seconds_left=left)

    def _heard(self, event: Event) -> None:
        if self._loop.is_closed():
            self._stop()
        else:
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        if isinstance(event, StartProgress):
            self._say("start", start_model(event))
        elif isinstance(event, HostChanged):
            if not self._changed:
                self._loop.call_later(_GATHER_SECONDS, self._flush)
            self._changed.add(event.host)
        elif isinstance(event, HostForgotten):
            self._changed.discard(event.host)
            if event.host.address.is_temporary:
                self._hosts.pop(event.host.address, None)
        elif isinstance(event, KernelMoved):
            self._spawn(self._say_kernel(event.kernel, "moved", former=event.former))
        elif isinstance(event, OutputDropped):
            self._spawn(self._say_kernel(event.kernel, "output dropped", dropped=event.messages))
        elif isinstance(event, KernelForgotten):
            self._notebooks.pop(event.kernel.kernel_id, None)
            if self._kernels.pop(event.kernel.kernel_id, None) is not None:
                self._spawn(self._say_kernel(event.kernel, "gone"))
        else:
            self._kernel_changed(event)

    def _kernel_changed(self, event: KernelChanged) -> None:
        kernel = event.kernel
        state, before = kernel.life.state, self._kernels.get(kernel.kernel_id)
        if state is before:
            return
        self._kernels[kernel.kernel_id] = state
        back = before in (State.UNREACHABLE, State.UNADOPTED) and not kernel.life.over
        self._spawn(self._say_kernel(kernel, "back" if back else _OF_STATES[state]))

    async def _say_kernel(self, kernel: RemoteKernel, change: str, **more: Any) -> None:
        model = await self._models.of_kernel(kernel)
        self._say("kernel", {"change": change, **more, "kernel": model})

    def _flush(self) -> None:
        changed, self._changed = self._changed, set()
        for host in changed:
            state, before = host_state(host), self._hosts.get(host.address)
            change = "load"
            if before is None or before.state != state:
                self._hosts[host.address] = _Seen(state, time.time())
                was_away = before is not None and before.state in ("unreachable", "unusable")
                change = "back" if was_away and state == "connected" else state
            self._spawn(self._say_host(host, change))

    async def _say_host(self, host: Host, change: str) -> None:
        for model in await self._models.models_of(host):
            self._say("host", {"change": change, "host": model})

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
