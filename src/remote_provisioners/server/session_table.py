"""The sessions of a Jupyter server by kernel, read one by one as they change.

`list_sessions` makes the models of all sessions in one step of the event loop: 16 ms with 3,000
sessions. So the table calls it only once, while there are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_core.utils import ensure_async
from tornado.web import HTTPError

from .hooks.session_manager import watch_sessions

#: The fields of a session, besides its kernel.
_FIELDS = ("id", "path", "name", "type")

Session = Mapping[str, Any]
OfKernels = Mapping[str, Sequence[Session]]


class SessionTable:
    """Works with any configured session manager. Lives on the server's event loop."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        #: The sessions of each kernel. A change makes a new sequence.
        self._of_kernels: dict[str, tuple[Session, ...]] = {}
        self._kernels: dict[str, str] = {}
        self._listed = False
        #: How often an unknown session has changed.
        self._unknown = 0
        #: The ids of sessions to read again, in the order of their changes.
        self._changed: dict[str, None] = {}
        self._reading = asyncio.Lock()

    def watch(self) -> None:
        """Follow the changes of sessions. Call this before others watch them."""
        watch_sessions(self.manager, self.changed, restored=True)

    async def changed(self, session_id: str) -> None:
        """Read this session again at the next query. With "", read all sessions again."""
        if session_id:
            self._changed[session_id] = None
        else:
            self._listed = False
            self._unknown += 1

    async def of_kernels(self) -> OfKernels:
        """The sessions of each kernel. The result does not change afterwards."""
        if self._old:
            async with self._reading:
                await self._read()
        return dict(self._of_kernels)

    async def of_kernel(self, kernel_id: str) -> Sequence[Session]:
        """The sessions of one kernel."""
        if self._old:
            await self.of_kernels()
        return self._of_kernels.get(kernel_id, ())

    @property
    def _old(self) -> bool:
        """Whether a session has changed, or somebody is just reading what has changed."""
        return bool(self._changed) or not self._listed or self._reading.locked()

    async def _read(self) -> None:
        if not self._listed:
            self._changed.clear()
            unknown = self._unknown
            sessions = await ensure_async(self.manager.list_sessions())
            self._listed = unknown == self._unknown
            self._of_kernels, self._kernels = {}, {}
            for session in sessions:
                self._add(session)
        while self._changed:
            session_id = next(iter(self._changed))
            del self._changed[session_id]
            try:
                session = await ensure_async(self.manager.get_session(session_id=session_id))
            except HTTPError:
                session = None
            except Exception:
                self._listed = False  # so nothing is missed
                raise
            self._remove(session_id)
            if session is not None:
                self._add(session)
        self._remove_culled()

    def _remove_culled(self) -> None:
        """Remove the sessions of kernels that are gone: their managers do not report them."""
        kernels = self.manager.kernel_manager
        for kernel_id in [known for known in self._of_kernels if known not in kernels]:
            for session in self._of_kernels.pop(kernel_id):
                self._kernels.pop(session["id"], None)

    def _add(self, session: Mapping[str, Any]) -> None:
        kernel_id = (session.get("kernel") or {}).get("id", "")
        known = self._of_kernels.get(kernel_id, ())
        self._kernels[session["id"]] = kernel_id
        self._of_kernels[kernel_id] = (*known, {name: session.get(name) for name in _FIELDS})

    def _remove(self, session_id: str) -> None:
        kernel_id = self._kernels.pop(session_id, None)
        if kernel_id is None:
            return
        left = tuple(s for s in self._of_kernels.get(kernel_id, ()) if s["id"] != session_id)
        if left:
            self._of_kernels[kernel_id] = left
        else:
            self._of_kernels.pop(kernel_id, None)
