"""All that replaces methods of jupyter_server's managers, or reads what is private to them.

Each function says why no public hook serves. Tried with jupyter_server 2.14 to 2.21 and
jupyter_client 8.6 to 8.10; with the managers of jupyter_kernel_gateway 3.0 and of
jupyter-server-documents 0.3, which derive from the same classes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from jupyter_core.utils import ensure_async

#: How long a request for a session waits for its kernel. Then it is answered and the kernel is
#: shown as starting: JupyterLab never runs a cell that is started before that answer.
PATIENCE_SECONDS = 0.25

_requested: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar(
    "environment", default=None
)
_session_id: contextvars.ContextVar[str] = contextvars.ContextVar("session_id", default="")
_for_session: contextvars.ContextVar[bool] = contextvars.ContextVar("for_session", default=False)


class ManagerListener(Protocol):
    """Learns what happens to the kernels of a manager."""

    def is_ours(self, kernel_name: str | None) -> bool:
        """Whether kernels of this kernelspec are started by one of our provisioners."""

    def removed(self, kernel_id: str, kernel: Any) -> None:
        """The manager forgets a kernel now."""

    def doing(self, kernel_id: str, what: str) -> contextlib.AbstractContextManager[None]:
        """A stop or a restart is under way as long as the context is open."""

    async def before_shutdown_all(self) -> None:
        """All kernels are about to be shut down."""

    def after_shutdown_all(self) -> None:
        """They were."""


def watch_kernels(manager: Any, listener: ManagerListener) -> None:
    """Tell `listener` of each removal, stop, restart and of the end of all kernels.

    jupyter_server has events for successful actions only, after the fact; a record has to be
    changed before. It calls these methods by their names on its one manager, so replacing them on
    that object reaches every caller.
    """
    remove_kernel, shutdown_all = manager.remove_kernel, manager.shutdown_all
    shutdown_kernel, restart_kernel = manager.shutdown_kernel, manager.restart_kernel

    def remove(kernel_id: str) -> Any:
        listener.removed(kernel_id, manager._kernels.get(kernel_id))
        return remove_kernel(kernel_id)

    starts = _Starts(manager, listener)

    async def stop(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
        if await starts.give_up([kernel_id]):
            return None
        forget_failure(manager, kernel_id)
        with listener.doing(kernel_id, "stop"):
            return await ensure_async(shutdown_kernel(kernel_id, *args, **kwargs))

    async def restart(kernel_id: str, *args: Any, **kwargs: Any) -> Any:
        forget_failure(manager, kernel_id)
        with listener.doing(kernel_id, "restart"):
            return await ensure_async(restart_kernel(kernel_id, *args, **kwargs))

    async def stop_all(*args: Any, **kwargs: Any) -> None:
        await starts.give_up(list(starts.pending))
        await listener.before_shutdown_all()
        for kernel_id in list(manager._kernels):
            forget_failure(manager, kernel_id)
        _forget_failed_starts(manager)
        try:
            await ensure_async(shutdown_all(*args, **kwargs))
        finally:
            listener.after_shutdown_all()

    manager.remove_kernel, manager.shutdown_all = remove, stop_all
    manager.shutdown_kernel, manager.restart_kernel = stop, restart


def end_in_order(gateway: Any, listener: ManagerListener) -> None:
    """Tell `listener` before Kernel Gateway ends, and after.

    It shuts its kernels down one by one, as if each were to be ended: `shutdown_all` is not called.
    """
    stop = gateway._stop

    async def stopping() -> None:
        await listener.before_shutdown_all()
        try:
            await stop()
        finally:
            listener.after_shutdown_all()

    gateway._stop = stopping


class _Starts:
    """Has a session whose kernel takes longer than `PATIENCE_SECONDS` answered meanwhile, with a
    pending kernel.

    `use_pending_kernels` would answer every start at once: for all kernelspecs and every client,
    and errors of the first moment would not be the request's answer any more.
    """

    def __init__(self, manager: Any, listener: ManagerListener) -> None:
        self.pending: dict[str, asyncio.Future[Any]] = {}
        self._manager = manager
        self._listener = listener
        self._start_kernel = manager.start_kernel
        self._pre_start_kernel = manager.pre_start_kernel
        #: By id, those that are made for starts of ours; None before they are made.
        self._made: dict[str, Any] = {}
        manager.start_kernel, manager.pre_start_kernel = self._start, self._pre_start

    def _pre_start(self, kernel_name: str | None, kwargs: Any) -> Any:
        kernel, name, kernel_id = self._pre_start_kernel(kernel_name, kwargs)
        if kernel_id in self._made:
            self._made[kernel_id] = kernel
        return kernel, name, kernel_id

    async def _start(self, *args: Any, **kwargs: Any) -> Any:
        manager, kernel_id = self._manager, kwargs.get("kernel_id")
        name = kwargs.get("kernel_name") or manager.default_kernel_name
        if not self._listener.is_ours(name) or (kernel_id is not None and kernel_id in manager):
            return await _started(manager, self._start_kernel(*args, **kwargs))
        if asked := _requested.get():
            kwargs["env"] = {**(kwargs.get("env") or os.environ), **asked}
        if not kernel_id:
            kernel_id = kwargs["kernel_id"] = manager.new_kernel_id(**kwargs)
        self._made[kernel_id] = None
        starting = asyncio.ensure_future(_started(manager, self._start_kernel(*args, **kwargs)))
        self.pending[kernel_id] = starting
        starting.add_done_callback(lambda _: self._over(kernel_id))
        await asyncio.wait([starting], timeout=PATIENCE_SECONDS if _for_session.get() else None)
        kernel = self._made.get(kernel_id)
        if starting.done() or kernel is None:
            return await starting
        _show_pending(manager, kernel_id, kernel, starting)
        return kernel_id

    def _over(self, kernel_id: str) -> None:
        del self._made[kernel_id], self.pending[kernel_id]

    async def give_up(self, kernel_ids: Sequence[str]) -> bool:
        """Cancel these starts, where they are not over. Returns whether one was."""
        given_up = {k: self.pending[k] for k in kernel_ids if k in self.pending}
        for task in given_up.values():
            task.cancel()
        if given_up:
            await asyncio.wait(given_up.values())
        for kernel_id in given_up:
            self._manager.remove_kernel(kernel_id)
            self._manager._pending_kernels.pop(kernel_id, None)
        return bool(given_up)


async def _started(manager: Any, starting: Awaitable[Any]) -> Any:
    """Await a start; where it fails forget it: see `_forget_failed_starts`."""
    try:
        return await ensure_async(starting)
    except BaseException:
        _forget_failed_starts(manager)
        raise


def _forget_failed_starts(manager: Any) -> None:
    """jupyter_client keeps the id of a failed start among those that it shuts down at the end."""
    for kernel_id, task in list(manager._pending_kernels.items()):
        if task.done() and kernel_id not in manager._kernels:
            del manager._pending_kernels[kernel_id]


def _show_pending(manager: Any, kernel_id: str, kernel: Any, starting: asyncio.Future[Any]) -> None:
    """Have a kernel that starts in the manager, as `use_pending_kernels` has it."""
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


# -- one kernel ---------------------------------------------------------------------------------


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
    """After `add_running` has failed: see `_forget_failed_starts`."""
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


# -- requests and sessions ----------------------------------------------------------------------


@contextlib.contextmanager
def requested_environment(env: Mapping[str, str]) -> Iterator[None]:
    """What a request asks for is in the environment of the kernels that it starts."""
    token = _requested.set(env)
    try:
        yield
    finally:
        _requested.reset(token)


def take_environments(serverapp: Any) -> None:
    """``POST /api/kernels`` takes KERNEL_ variables of the request's ``env``.

    jupyter_server drops them, though its own gateway client sends them. Handlers of extensions
    come before its own; this one does the rest by that.
    """
    from jupyter_server.services.kernels.handlers import MainKernelHandler  # noqa: PLC0415
    from jupyter_server.utils import url_path_join  # noqa: PLC0415

    class KernelsHandler(MainKernelHandler):
        async def post(self) -> None:
            model = self.get_json_body()
            env = model.get("env") if isinstance(model, dict) else None
            asked = env if isinstance(env, dict) else {}
            with requested_environment({n: v for n, v in asked.items() if n[:7] == "KERNEL_"}):
                await ensure_async(super().post())

    path = url_path_join(serverapp.base_url, r"/api/kernels")
    serverapp.web_app.add_handlers(".*$", [(path, KernelsHandler)])


def watch_sessions(
    manager: Any,
    changed: Callable[[], Awaitable[None]],
    replaced: Callable[[str], Awaitable[bool]],
) -> None:
    """Call `changed` after each change; ask `replaced` whether the session of a path that is
    asked for again is to be made anew.

    There are no events of sessions.
    """
    for name in ("create_session", "update_session", "delete_session"):
        method = getattr(manager, name, None)
        if method is not None:
            setattr(manager, name, _watched(method, changed, _may_be_pending(manager)))
    exists, new_id = manager.session_exists, manager.new_session_id

    async def session_exists(path: str, *args: Any, **kwargs: Any) -> bool:
        found = await ensure_async(exists(path, *args, **kwargs))
        return bool(found) and not await replaced(path)

    manager.session_exists = session_exists
    manager.new_session_id = lambda: _session_id.get() or new_id()


def _may_be_pending(manager: Any) -> bool:
    """Whether the kernel of a session may start when it is made: not where more is done with it."""
    from jupyter_server.services.sessions.sessionmanager import SessionManager  # noqa: PLC0415

    return getattr(type(manager), "create_session", None) is SessionManager.create_session


def _watched(method: Any, changed: Callable[[], Awaitable[None]], may_be_pending: bool) -> Any:
    @functools.wraps(method)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        token = _for_session.set(may_be_pending)
        try:
            return await ensure_async(method(*args, **kwargs))
        finally:
            _for_session.reset(token)
            if not _session_id.get():  # it is no change to be restored
                await changed()

    return watched


@contextlib.contextmanager
def session_named(session_id: str) -> Iterator[None]:
    """A session that is created has this id: `create_session` has no argument for it."""
    token = _session_id.set(session_id)
    try:
        yield
    finally:
        _session_id.reset(token)
