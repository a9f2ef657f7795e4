"""The sessions of a Jupyter server: which notebook has which kernel. Followed, and put back."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tornado.web import HTTPError

#: What is kept of a session: all but its kernel.
_FIELDS = ("id", "path", "name", "type")
_CHANGING = ("create_session", "update_session", "delete_session")

OfKernels = Mapping[str, Sequence[Mapping[str, str]]]


class Sessions:
    """Speaks to whatever session manager is configured by the methods that the REST API calls."""

    def __init__(self, session_manager: Any, log: logging.Logger) -> None:
        self._manager = session_manager
        self._log = log
        self._reading = asyncio.Lock()

    def watch(self, changed: Callable[[OfKernels], None]) -> None:
        """Call `changed` with the sessions of each kernel whenever one of them has changed."""
        for name in _CHANGING:
            method = getattr(self._manager, name, None)
            if method is not None:
                setattr(self._manager, name, self._watched(method, changed))

    def _watched(self, method: Any, changed: Callable[[OfKernels], None]) -> Any:
        @functools.wraps(method)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return await method(*args, **kwargs)
            finally:
                async with self._reading:  # what is read last is told last
                    changed(await self._of_kernels())

        return watched

    async def _of_kernels(self) -> OfKernels:
        found: dict[str, list[Mapping[str, str]]] = defaultdict(list)
        for session in await self._manager.list_sessions():
            kernel = (session.get("kernel") or {}).get("id")
            if kernel:
                found[kernel].append({name: session.get(name) for name in _FIELDS})
        return found

    async def restore(self, kernel_id: str, sessions: Sequence[Mapping[str, str]]) -> None:
        """Put the sessions of a kernel back, with their ids; those that are there stay."""
        for session in sessions:
            try:
                await self._manager.get_session(session_id=session["id"])
                continue  # this manager keeps them on the disk
            except HTTPError:
                pass
            try:
                await self._manager.save_session(
                    session["id"],
                    path=session.get("path"),
                    name=session.get("name"),
                    type=session.get("type"),
                    kernel_id=kernel_id,
                )
            except (AttributeError, HTTPError) as error:
                self._log.warning(
                    "session %s of kernel %s: not restored: %s", session["id"], kernel_id, error
                )
