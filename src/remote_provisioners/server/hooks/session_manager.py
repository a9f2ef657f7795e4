"""The session manager, and requests for sessions and kernels."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from jupyter_core.utils import ensure_async

from .pending_starts import for_session, requested

_session_id: contextvars.ContextVar[str] = contextvars.ContextVar("session_id", default="")


@contextlib.contextmanager
def requested_environment(env: Mapping[str, str]) -> Iterator[None]:
    """What a request asks for is in the environment of the kernels that it starts."""
    token = requested.set(env)
    try:
        yield
    finally:
        requested.reset(token)


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
        token = for_session.set(may_be_pending)
        try:
            return await ensure_async(method(*args, **kwargs))
        finally:
            for_session.reset(token)
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
