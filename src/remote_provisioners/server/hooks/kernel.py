"""One kernel in the manager of all: added, shown as dead, let go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from jupyter_core.utils import ensure_async


async def add_running(
    manager: Any, record: Any, env: Mapping[str, str], provisioner_info: Mapping[str, Any]
) -> Any:
    """Have a kernel in the manager that runs already; returns its own manager.

    Not by start_kernel: applications add to that what is for new kernels only.
    """
    await manager._async_start_kernel(
        kernel_id=record.kernel_id,
        kernel_name=record.kernel_name,
        env=dict(env),
        cwd=record.info.get("launch", {}).get("cwd"),
        provisioner_info=provisioner_info,
    )
    kernel = manager.get_kernel(record.kernel_id)
    await ensure_async(kernel.ready)
    kernel.stop_restarter()  # until it is known to live
    kernel.execution_state = "busy"  # perhaps: who is idle may be culled
    # Websockets wait for an answer that says which protocol the kernel speaks, up to 60 s: a
    # kernel that computes, or whose host is away, answers later. What is assumed then is assumed
    # here: a protocol of this decade.
    known: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    known.set_result({})
    kernel._kernel_info_future = known
    return kernel


def cannot_be_added(manager: Any, kernel_id: str) -> None:
    """After `add_running` has failed: see `pending_starts.forget_failed_starts`."""
    manager._pending_kernels.pop(kernel_id, None)


def ask_whether_idle(kernel: Any) -> None:
    """A kernel answers on its shell channel once it has nothing else to do."""
    channel = kernel.connect_shell()

    def answered(_: Any) -> None:
        channel.close()
        if kernel.execution_state == "busy":
            kernel.execution_state = "idle"

    channel.on_recv(answered)
    kernel.session.send(channel, "kernel_info_request")


def show_dead(kernel: Any, reason: str) -> None:
    """Show a kernel as dead, with the reason.

    Who opens a websocket to it is told so at once, as of a pending kernel that failed: it would
    wait 60 s for one that may come to live.
    """
    kernel.execution_state, kernel.reason = "dead", reason
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.set_exception(RuntimeError(reason))
    failed.exception()  # it is no news
    kernel._ready = failed


def forget_failure(manager: Any, kernel_id: str) -> None:
    """A kernel that is shown as dead is to be stopped or restarted, as one that was ready.

    The manager would only drop one that never was.
    """
    kernel = manager._kernels.get(kernel_id)
    ready = getattr(kernel, "_ready", None)
    if getattr(kernel, "execution_state", "") == "dead" and ready is not None and ready.done():
        cleared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cleared.set_result(None)
        kernel._ready = cleared


def is_dead(manager: Any, kernel_id: str) -> bool:
    return getattr(manager._kernels.get(kernel_id), "execution_state", "") == "dead"


async def detach(manager: Any, kernel_id: str, kernel: Any) -> None:
    """Have nothing more to do with a kernel, which goes on: no stop, no message to it.

    The manager's own way to lose a kernel is to end it.
    """
    _disconnect(manager, kernel_id, kernel)
    await kernel.provisioner.let_go()
    _drop(manager, kernel_id)


async def bury(manager: Any, kernel_id: str, kernel: Any, reason: str) -> None:
    """Remove a kernel that has ended; its websockets are told, as by a restarter that gave up.

    The manager has no way to learn of a death but its restarter, and leaves sockets open.
    """
    kernel.execution_state, kernel.reason = "dead", reason
    _disconnect(manager, kernel_id, kernel)
    restarter = getattr(kernel, "_restarter", None)
    if restarter is not None:
        restarter._fire_callbacks("dead")
    await kernel.provisioner.cleanup()
    manager.remove_kernel(kernel_id)
    _drop(manager, kernel_id)


def _disconnect(manager: Any, kernel_id: str, kernel: Any) -> None:
    kernel.shutting_down = True
    kernel.stop_restarter()
    manager.stop_watching_activity(kernel_id)
    manager.stop_buffering(kernel_id)
    kernel._close_control_socket()
    kernel.cleanup_connection_file()


def _drop(manager: Any, kernel_id: str) -> None:
    manager._kernels.pop(kernel_id, None)
    manager._kernel_connections.pop(kernel_id, None)
    manager._pending_kernels.pop(kernel_id, None)


def kernels_of(manager: Any) -> Iterator[tuple[str, Any]]:
    """The kernels of our provisioners, with their ids."""
    for kernel_id, kernel in list(manager._kernels.items()):
        if hasattr(getattr(kernel, "provisioner", None), "leave_kernels_running"):
            yield kernel_id, kernel
