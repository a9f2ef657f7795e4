"""Restarts in progress: gives them up when their kernels are shut down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from jupyter_core.utils import ensure_async

from ...errors import StartCancelledError
from .pending_starts import joined


def moves(kernel: Any) -> bool:
    """Whether the kernel's next restart moves it to another host."""
    placer = getattr(getattr(kernel, "provisioner", None), "placer", None)
    return bool(getattr(placer, "moves", False))


def _shut_down(kernel_id: str) -> str:
    return f"kernel {kernel_id} was shut down during its restart"


class Restarts:
    """The restarts of one manager's kernels.

    A restart lasts as long as the kernel's host cannot be reached. Meanwhile jupyter_client cannot
    shut the kernel down: it reads the exception of the kernel's `ready`, which is not done yet,
    and the InvalidStateError keeps the server from ending.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._tasks: dict[str, set[asyncio.Task[Any]]] = {}
        self._given_up: set[asyncio.Task[Any]] = set()

    async def run(self, kernel_id: str, restart: Callable[[], Awaitable[Any]]) -> Any:
        """Restart a kernel. A second request during the restart gets the same restart, because two
        at once would end each other's process. Raises StartCancelledError when somebody shuts the
        kernel down in the meantime.
        """
        awaited: set[asyncio.Task[Any]] = set()
        while others := self._tasks.get(kernel_id, set()) - awaited:
            other = others.pop()
            awaited.add(other)
            result = await joined(other, _shut_down(kernel_id))
            if not self._moves(kernel_id):
                return result
        task = asyncio.ensure_future(ensure_async(restart()))
        self._tasks.setdefault(kernel_id, set()).add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if task in self._given_up:
                raise StartCancelledError(_shut_down(kernel_id)) from None
            raise
        finally:
            self._given_up.discard(task)
            self._tasks[kernel_id].discard(task)
            if not self._tasks[kernel_id]:
                del self._tasks[kernel_id]

    def _moves(self, kernel_id: str) -> bool:
        return moves(self._manager._kernels.get(kernel_id))

    async def give_up(self, kernel_ids: Iterable[str]) -> None:
        """Cancel the restarts of these kernels, so that the kernels can be shut down."""
        ids = list(kernel_ids)
        tasks = {task for kernel_id in ids for task in self._tasks.get(kernel_id, ())}
        self._given_up |= tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for kernel_id in ids:
            self._settle(kernel_id)

    def _settle(self, kernel_id: str) -> None:
        """Set `ready` of a kernel whose restart was cancelled: nobody else does. Skips a kernel
        that the manager itself is starting or stopping.
        """
        kernel = self._manager._kernels.get(kernel_id)
        ready = getattr(kernel, "_ready", None)
        if ready is None or ready.done() or kernel_id in self._manager._pending_kernels:
            return
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        settled.set_result(None)
        kernel._ready = settled
