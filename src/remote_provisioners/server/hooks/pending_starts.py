"""Answers requests for sessions before a slow kernel has started."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from jupyter_core.utils import ensure_async

from ...errors import StartCancelledError
from .kernel import show_dead

#: How long a request for a session waits for its kernel. Then we answer it and show the kernel as
#: starting: JupyterLab never runs a cell that a user starts before that answer.
PATIENCE_SECONDS = 0.25

#: Variables that a request wants in the environment of its kernel.
requested: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar(
    "environment", default=None
)
#: Whether the start is for a session that may have a pending kernel.
for_session: contextvars.ContextVar[bool] = contextvars.ContextVar("for_session", default=False)


class Judge(Protocol):
    """Knows kernelspecs."""

    def is_ours(self, kernel_name: str | None) -> bool:
        """Whether one of our provisioners starts the kernels of this kernelspec."""


class PendingStarts:
    """Answers a request for a session after `PATIENCE_SECONDS` with a pending kernel.

    `use_pending_kernels` would answer every start at once, for all kernelspecs and clients. Then
    the request could not report an immediate error any more.
    """

    def __init__(self, manager: Any, judge: Judge) -> None:
        self.pending: dict[str, asyncio.Future[Any]] = {}
        self._manager = manager
        self._judge = judge
        self._start_kernel = manager.start_kernel
        self._pre_start_kernel = manager.pre_start_kernel
        #: The managers of the kernels that we start, by kernel id; None until one is made.
        self._made: dict[str, Any] = {}
        manager.start_kernel, manager.pre_start_kernel = self._start, self._pre_start

    def _pre_start(self, kernel_name: str | None, kwargs: Any) -> Any:
        kernel, name, kernel_id = self._pre_start_kernel(kernel_name, kwargs)
        if hasattr(type(kernel), "last_activity"):
            # jupyter_server sets these a moment after it lists the kernel, and whoever asks for the
            # list in that moment gets a 500.
            kernel.execution_state, kernel.reason = "starting", ""
            kernel.last_activity = _now()
        if kernel_id in self._made:
            self._made[kernel_id] = kernel
        return kernel, name, kernel_id

    async def _start(self, *args: Any, **kwargs: Any) -> Any:
        manager, kernel_id = self._manager, kwargs.get("kernel_id")
        name = kwargs.get("kernel_name") or manager.default_kernel_name
        if kernel_id is not None and await self.wait(kernel_id):
            return kernel_id  # two requests for the same one
        if not self._judge.is_ours(name) or (kernel_id is not None and kernel_id in manager):
            return await _started(manager, self._start_kernel(*args, **kwargs))
        if asked := requested.get():
            kwargs["env"] = {**(kwargs.get("env") or os.environ), **asked}
        if not kernel_id:
            kernel_id = kwargs["kernel_id"] = manager.new_kernel_id(**kwargs)
        self._made[kernel_id] = None
        starting = asyncio.ensure_future(_started(manager, self._start_kernel(*args, **kwargs)))
        self.pending[kernel_id] = starting
        starting.add_done_callback(lambda _: self._over(kernel_id))
        await asyncio.wait([starting], timeout=PATIENCE_SECONDS if for_session.get() else None)
        kernel = self._made.get(kernel_id)
        if starting.done() or kernel is None:
            return await joined(starting, _shut_down(kernel_id))
        _show_pending(manager, kernel_id, kernel, starting)
        return kernel_id

    def _over(self, kernel_id: str) -> None:
        del self._made[kernel_id], self.pending[kernel_id]

    async def wait(self, kernel_id: str) -> bool:
        """Wait for the start in progress. Returns whether there was one. Raises its error."""
        starting = self.pending.get(kernel_id)
        if starting is None:
            return False
        await joined(starting, _shut_down(kernel_id))
        return True

    async def give_up(self, kernel_ids: Sequence[str]) -> bool:
        """Cancel those of these starts that are in progress. Returns whether there were any."""
        given_up = {k: self.pending[k] for k in kernel_ids if k in self.pending}
        for task in given_up.values():
            task.cancel()
        if given_up:
            await asyncio.wait(given_up.values())
        for kernel_id in given_up:
            self._manager.remove_kernel(kernel_id)
            self._manager._pending_kernels.pop(kernel_id, None)
        return bool(given_up)


async def joined(task: asyncio.Future[Any], cancelled: str) -> Any:
    """Await a task that others await, too. If one of them cancels it, raise StartCancelledError
    with the text `cancelled`: a request that is cancelled itself would never be answered."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise StartCancelledError(cancelled) from None
        raise


def _shut_down(kernel_id: str) -> str:
    return f"kernel {kernel_id} was shut down during its start"


async def _started(manager: Any, starting: Awaitable[Any]) -> Any:
    """Await a start; forget it if it fails: see `forget_failed_starts`."""
    try:
        return await ensure_async(starting)
    except BaseException:
        forget_failed_starts(manager)
        raise


def forget_failed_starts(manager: Any) -> None:
    """Remove failed starts from the kernels that jupyter_client shuts down at the end."""
    for kernel_id, task in list(manager._pending_kernels.items()):
        if task.done() and kernel_id not in manager._kernels:
            del manager._pending_kernels[kernel_id]


def _show_pending(manager: Any, kernel_id: str, kernel: Any, starting: asyncio.Future[Any]) -> None:
    """Put a starting kernel into the manager, as `use_pending_kernels` does."""
    manager._kernels[kernel_id] = kernel
    manager._kernel_connections.setdefault(kernel_id, 0)
    kernel.execution_state, kernel.reason = "starting", ""
    kernel.last_activity = _now()

    def over(task: asyncio.Future[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and manager._kernels.get(kernel_id) is kernel:
            show_dead(kernel, str(error))

    starting.add_done_callback(over)


def _now() -> Any:
    from jupyter_server._tz import utcnow  # noqa: PLC0415

    return utcnow()
