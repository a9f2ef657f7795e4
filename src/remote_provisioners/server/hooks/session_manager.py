"""Hooks into the session manager, and into requests for sessions and kernels."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from jupyter_core.utils import ensure_async

from .pending_starts import for_session, requested

Changed = Callable[[str], Awaitable[None]]

_session_id: contextvars.ContextVar[str] = contextvars.ContextVar("session_id", default="")


@contextlib.contextmanager
def requested_environment(env: Mapping[str, str]) -> Iterator[None]:
    """Kernels that are started inside this context get the variables `env`."""
    token = requested.set(env)
    try:
        yield
    finally:
        requested.reset(token)


def take_environments(serverapp: Any) -> None:
    """Let ``POST /api/kernels`` use the KERNEL_ variables in the request's ``env``.

    jupyter_server drops them, although its own gateway client sends them. Our handler comes
    before the server's, takes the variables, and then calls the server's handler.
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


def watch_sessions(manager: Any, changed: Changed, restored: bool = False) -> None:
    """Call `changed` with the id of each session that has changed; "" if the id is unknown.

    With `restored`, call it also when a session is restored. jupyter_server itself has no events
    for sessions.
    """
    for name in ("create_session", "update_session", "delete_session"):
        method = getattr(manager, name, None)
        if method is not None:
            pending = _may_be_pending(manager)
            setattr(manager, name, _watched(method, changed, pending, restored))


def replace_sessions(manager: Any, replaced: Callable[[str], Awaitable[bool]]) -> None:
    """When a client requests a path that has a session, `replaced` decides whether to make a new
    one. Restored sessions get their former ids.
    """
    exists, new_id = manager.session_exists, manager.new_session_id

    async def session_exists(path: str, *args: Any, **kwargs: Any) -> bool:
        found = await ensure_async(exists(path, *args, **kwargs))
        return bool(found) and not await replaced(path)

    manager.session_exists = session_exists
    manager.new_session_id = lambda: _session_id.get() or new_id()


def place_kernels(
    manager: Any, environment_of: Callable[[str], Awaitable[Mapping[str, str]]]
) -> None:
    """Start the kernel of a session with the variables that its notebook's path needs."""
    start = getattr(manager, "start_kernel_for_session", None)
    if start is None:
        return

    @functools.wraps(start)
    async def placed(session_id: str, path: Any, *args: Any, **kwargs: Any) -> Any:
        env = await environment_of(path) if isinstance(path, str) else {}
        if not env:
            return await ensure_async(start(session_id, path, *args, **kwargs))
        with requested_environment({**(requested.get() or {}), **env}):
            return await ensure_async(start(session_id, path, *args, **kwargs))

    manager.start_kernel_for_session = placed


def _may_be_pending(manager: Any) -> bool:
    """Whether a session may be answered with a pending kernel: not with a custom create_session."""
    from jupyter_server.services.sessions.sessionmanager import SessionManager  # noqa: PLC0415

    return getattr(type(manager), "create_session", None) is SessionManager.create_session


def _watched(method: Any, changed: Changed, may_be_pending: bool, restored: bool) -> Any:
    @functools.wraps(method)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        token = for_session.set(may_be_pending)
        result = None
        try:
            result = await ensure_async(method(*args, **kwargs))
            return result
        finally:
            for_session.reset(token)
            if restored or not _session_id.get():
                await changed(_id_of(result, args, kwargs))

    return watched


def _id_of(result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The id of the session that a method of the manager has changed; "" if it is unknown."""
    if isinstance(result, Mapping) and result.get("id"):  # create_session
        return str(result["id"])
    return str(kwargs.get("session_id") or next(iter(args), None) or "")


@contextlib.contextmanager
def session_named(session_id: str) -> Iterator[None]:
    """Sessions created in this context have this id: `create_session` has no argument for it."""
    token = _session_id.set(session_id)
    try:
        yield
    finally:
        _session_id.reset(token)
