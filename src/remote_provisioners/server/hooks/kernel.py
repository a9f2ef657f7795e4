"""One kernel in the manager of all kernels: adding it, showing it as dead, detaching it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jupyter_core.utils import ensure_async


async def add_running(
    manager: Any, record: Any, env: Mapping[str, str], provisioner_info: Mapping[str, Any]
) -> Any:
    """Add a kernel that runs already to the manager. Returns the kernel's own manager.

    Does not call start_kernel: applications extend that for new kernels.
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
    kernel.stop_restarter()  # until we know that the kernel lives
    kernel.execution_state = "busy"  # it may be; an idle kernel could be culled
    # A websocket waits up to 60 s for the kernel to report its protocol version. A kernel that
    # computes, or whose host is away, answers later. So we give the empty answer that
    # jupyter_server assumes after a timeout: a recent protocol.
    known: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    known.set_result({})
    kernel._kernel_info_future = known
    return kernel


def cannot_be_added(manager: Any, kernel_id: str) -> None:
    """Clean up after `add_running` has failed: see `pending_starts.forget_failed_starts`."""
    manager._pending_kernels.pop(kernel_id, None)


def ask_whether_idle(kernel: Any) -> None:
    """Ask on the shell channel: the kernel answers once it is idle, and is shown as idle then."""
    channel = kernel.connect_shell()

    def answered(_: Any) -> None:
        channel.close()
        if kernel.execution_state == "busy":
            kernel.execution_state = "idle"

    channel.on_recv(answered)
    kernel.session.send(channel, "kernel_info_request")


def show_dead(kernel: Any, reason: str) -> None:
    """Show a kernel as dead, with the reason.

    A new websocket to it fails at once, as with a pending kernel that failed. Otherwise it would
    wait 60 s for the kernel.
    """
    kernel.execution_state, kernel.reason = "dead", reason
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.set_exception(RuntimeError(reason))
    failed.exception()  # mark it as seen
    kernel._ready = failed


def keep_dead(kernel: Any, reason: str) -> Callable[[], None]:
    """Show a kernel as dead, and leave it in the manager: only its user may restart it.

    Called while its restarter finds that it is not alive. The restarter then gives up at once: it
    tells the websockets, and no longer the manager, which would remove the kernel. Returns what
    lets it restart the kernel again.
    """
    restarter = getattr(kernel, "_restarter", None)
    if hasattr(kernel, "execution_state"):
        show_dead(kernel, reason)
    if restarter is None:
        return lambda: None
    dead = restarter.callbacks["dead"]
    of_manager = [each for each in dead if "KernelManager." in getattr(each, "__qualname__", "")]
    limit, restarter.restart_limit = restarter.restart_limit, 0
    restarter.callbacks["dead"] = [each for each in dead if each not in of_manager]

    def let_restart() -> None:
        restarter.restart_limit = limit
        restarter.callbacks["dead"] += of_manager

    return let_restart


def forget_failure(manager: Any, kernel_id: str) -> None:
    """Let a kernel that is shown as dead be stopped or restarted as if it had been ready.

    The manager would only drop a kernel that was never ready.
    """
    kernel = manager._kernels.get(kernel_id)
    ready = getattr(kernel, "_ready", None)
    if getattr(kernel, "execution_state", "") == "dead" and ready is not None and ready.done():
        cleared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cleared.set_result(None)
        kernel._ready = cleared


def ready_again(kernel: Any) -> None:
    """Let a shutdown succeed after it has given up the kernel's start.

    A start and a shutdown at the same time share one future, `ready`. The start has put its error
    into it, so the shutdown would fail when it puts its own result there.
    """
    ready = getattr(kernel, "_ready", None)
    if ready is not None and ready.done():
        kernel._ready = type(ready)()


def is_dead(manager: Any, kernel_id: str) -> bool:
    return getattr(manager._kernels.get(kernel_id), "execution_state", "") == "dead"


async def detach(manager: Any, kernel_id: str, kernel: Any) -> None:
    """Remove a kernel from the manager without stopping it or sending it a message.

    The manager itself can only remove a kernel by ending it.
    """
    _disconnect(manager, kernel_id, kernel)
    await kernel.provisioner.let_go()
    _drop(manager, kernel_id)


async def bury(manager: Any, kernel_id: str, kernel: Any, reason: str) -> None:
    """Remove a kernel that has ended. Its websockets learn that as from a restarter that gave up.

    The manager learns of a death only from its restarter, and leaves sockets open.
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


def kernel_of(manager: Any, kernel_id: str) -> Any:
    """The manager of this kernel; None if there is none."""
    return manager._kernels.get(kernel_id)


def kernels_of(manager: Any) -> Iterator[tuple[str, Any]]:
    """The kernels of our provisioners, with their ids."""
    for kernel_id, kernel in list(manager._kernels.items()):
        if hasattr(getattr(kernel, "provisioner", None), "leave_kernels_running"):
            yield kernel_id, kernel
