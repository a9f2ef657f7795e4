"""Kernels that have to be ended on a host. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from ..protocol.agent_requests import Forget
from .agent_channel import AgentChannel

_AGAIN_SECONDS = 2.0

log = logging.getLogger(__name__)


class Killing(Protocol):
    """A host, as its pending kills see it."""

    name: str
    on_change: Callable[[], None]

    @property
    def kernels(self) -> Mapping[str, Any]:
        """Those that start or run. A start ends the former process of its kernel."""

    @property
    def channel(self) -> AgentChannel | None:
        """To the agent; None while the host is away."""


class PendingKills:
    """The kills of one host. A kill is pending until the agent has confirmed it."""

    def __init__(self, host: Killing) -> None:
        self._host = host
        self._pending: set[str] = set()
        self._asking: set[asyncio.Task[Any]] = set()

    def __bool__(self) -> bool:
        return bool(self._pending)

    def __contains__(self, kernel_id: str) -> bool:
        return kernel_id in self._pending

    def __iter__(self) -> Any:
        return iter(set(self._pending))

    def kill(self, kernel_id: str) -> None:
        """End a kernel, now or when the host is back."""
        channel = self._host.channel
        self._pending.add(kernel_id)
        if channel is not None:
            self.await_kill(kernel_id, channel.request(Forget(kernel_id=kernel_id)))

    def await_kill(self, kernel_id: str, asked: Coroutine[Any, Any, Any]) -> None:
        """Await a request that ends this kernel."""
        self._pending.add(kernel_id)
        task = asyncio.ensure_future(asked)
        self._asking.add(task)
        task.add_done_callback(lambda task: self._asked(kernel_id, task))

    def ended(self, kernel_id: str) -> None:
        """The agent has ended it, or its next process has taken its place."""
        if kernel_id in self._pending:
            self._pending.discard(kernel_id)
            self._host.on_change()

    def _asked(self, kernel_id: str, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if task.cancelled():
            return
        if task.exception() is None:
            self.ended(kernel_id)
            return
        log.debug("host %s: kernel %s: not ended: %s", self._host.name, kernel_id, task.exception())
        if self._host.channel is not None:  # the agent could not, at that moment
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._again, kernel_id)

    def _again(self, kernel_id: str) -> None:
        wanted = kernel_id in self._pending and kernel_id not in self._host.kernels
        if wanted and self._host.channel is not None:
            self.kill(kernel_id)
