"""Watch and restore the sessions of a Jupyter server: which notebook has which kernel."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from jupyter_core.utils import ensure_async
from tornado.web import HTTPError

from .hooks.session_manager import replace_sessions, session_named, watch_sessions
from .session_table import OfKernels, SessionTable

#: Some managers wait in `create_session` for the kernel's answer, and the kernel may be computing.
_RESTORE_SECONDS = 2.0


class Sessions:
    """Works with any configured session manager through the methods that the REST API calls."""

    def __init__(self, table: SessionTable, log: logging.Logger) -> None:
        self._table = table
        self._manager = table.manager
        self._log = log
        self._reading = asyncio.Lock()
        self._restoring: set[asyncio.Future[Any]] = set()

    def watch(
        self,
        changed: Callable[[OfKernels], Awaitable[None]],
        replaced: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        """Call `changed` with the sessions of each kernel whenever one of them changes.

        When a user opens a session again, `replaced` is called with its path and kernel and
        returns whether the session needs a new kernel.
        """

        async def read(_: str) -> None:
            async with self._reading:  # keeps the order of reading and reporting
                await changed(await self._table.of_kernels())

        async def reopened(path: str) -> bool:
            with contextlib.suppress(HTTPError):
                session = await ensure_async(self._manager.get_session(path=path))
                return await replaced(path, str((session.get("kernel") or {}).get("id")))
            return False

        watch_sessions(self._manager, read)
        replace_sessions(self._manager, reopened)

    def environment(self, session: Mapping[str, str]) -> Mapping[str, str]:
        """What the server adds to the environment of the session's kernel: the notebook's path,
        which may have changed since the kernel's start.
        """
        whole = getattr(self._manager, "get_kernel_env", None)
        if whole is None:
            return {}
        words = [session.get("path"), session.get("name")]
        if len(inspect.signature(whole).parameters) == 1:  # of jupyter_server before 2.3
            words.pop()
        env = whole(*words)
        return {name: value for name, value in env.items() if os.environ.get(name) != value}

    async def restore(
        self, kernel_id: str, kernel_name: str, sessions: Sequence[Mapping[str, str]]
    ) -> None:
        """Begin to restore a kernel's sessions with their ids. Existing sessions stay.

        Uses `create_session`, because some managers do more there. `restored` waits for the end.
        """
        for session in sessions:
            with session_named(session["id"]):
                made = asyncio.ensure_future(self._create(kernel_id, kernel_name, session))
            self._restoring.add(made)
            made.add_done_callback(self._restoring.discard)

    async def restored(self) -> None:
        """Wait until all sessions are restored, but not long, however many there are."""
        if self._restoring:
            await asyncio.wait(self._restoring, timeout=_RESTORE_SECONDS)

    async def _create(self, kernel_id: str, kernel_name: str, session: Mapping[str, str]) -> None:
        try:
            if not await self._exists(session):
                await self._manager.create_session(
                    path=session.get("path"),
                    name=session.get("name"),
                    type=session.get("type"),
                    kernel_name=kernel_name,
                    kernel_id=kernel_id,
                )
        except Exception as error:  # any configured manager may raise anything
            self._log.warning(
                "session %s of kernel %s: not restored: %s", session["id"], kernel_id, error
            )

    async def _exists(self, session: Mapping[str, str]) -> bool:
        """Whether this manager keeps sessions on disk, and so has it."""
        try:
            await ensure_async(self._manager.get_session(session_id=session["id"]))
        except HTTPError:
            return False
        return True
