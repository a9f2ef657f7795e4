"""Hooks into the manager of all kernels: a listener learns of each action before it happens."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from jupyter_core.utils import ensure_async
from tornado.web import HTTPError

from .kernel import forget_failure
from .pending_starts import PendingStarts, forget_failed_starts
from .restarts import Restarts, moves


class ManagerListener(Protocol):
    """Learns what happens to the kernels of a manager."""

    def is_ours(self, kernel_name: str | None) -> bool:
        """Whether one of our provisioners starts the kernels of this kernelspec."""

    def removed(self, kernel_id: str, kernel: Any) -> None:
        """The manager is about to forget a kernel."""

    def doing(self, kernel_id: str, what: str) -> contextlib.AbstractContextManager[None]:
        """A stop or a restart is in progress while the context is open."""

    async def before_shutdown_all(self) -> None:
        """All kernels are about to be shut down."""

    def after_shutdown_all(self) -> None:
        """All kernels have been shut down."""


def watch_kernels(manager: Any, listener: ManagerListener) -> None:
    """Tell `listener` of each removal, stop and restart, and of the end of all kernels.

    jupyter_server has events only for actions that have succeeded, but a record has to change
    before the action. The server calls these methods by name on its one manager, so replacing
    them on that object reaches every caller.
    """
    remove_kernel, shutdown_all = manager.remove_kernel, manager.shutdown_all
    shutdown_kernel, restart_kernel = manager.shutdown_kernel, manager.restart_kernel
    interrupt_kernel = manager.interrupt_kernel

    def remove(kernel_id: str) -> Any:
        listener.removed(kernel_id, manager._kernels.get(kernel_id))
        return remove_kernel(kernel_id)

    starts = PendingStarts(manager, listener)
    restarts = Restarts(manager)

    async def stop(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
        if await starts.give_up([kernel_id]):
            return None
        await restarts.give_up([kernel_id])
        forget_failure(manager, kernel_id)
        with listener.doing(kernel_id, "stop"):
            return await ensure_async(shutdown_kernel(kernel_id, *args, **kwargs))

    async def restart(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
        if await starts.wait(kernel_id) and not moves(manager._kernels.get(kernel_id)):
            return None  # it is as new as one that restarts
        forget_failure(manager, kernel_id)

        async def begin() -> Any:
            with listener.doing(kernel_id, "restart"):
                return await ensure_async(restart_kernel(kernel_id, *args, **kwargs))

        return await restarts.run(kernel_id, begin)

    async def interrupt(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
        if kernel_id in starts.pending:  # jupyter_client's error is a 500 without a text
            raise HTTPError(409, f"kernel {kernel_id} still starts: interrupt it when it runs")
        return await ensure_async(interrupt_kernel(kernel_id, *args, **kwargs))

    async def stop_all(*args: Any, **kwargs: Any) -> None:
        await starts.give_up(list(starts.pending))
        await restarts.give_up(manager._kernels)
        await listener.before_shutdown_all()
        for kernel_id in list(manager._kernels):
            forget_failure(manager, kernel_id)
        forget_failed_starts(manager)
        try:
            await ensure_async(shutdown_all(*args, **kwargs))
        finally:
            listener.after_shutdown_all()

    manager.remove_kernel, manager.shutdown_all = remove, stop_all
    manager.shutdown_kernel, manager.restart_kernel = stop, restart
    manager.interrupt_kernel = interrupt


def end_in_order(gateway: Any, listener: ManagerListener) -> None:
    """Tell `listener` before Kernel Gateway ends, and after.

    Kernel Gateway does not call `shutdown_all`: it shuts its kernels down one by one.
    """
    stop = gateway._stop

    async def stopping() -> None:
        await listener.before_shutdown_all()
        try:
            await stop()
        finally:
            listener.after_shutdown_all()

    gateway._stop = stopping
