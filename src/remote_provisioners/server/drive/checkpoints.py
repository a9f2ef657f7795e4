"""Checkpoints of a host's files: beside them, where Jupyter on the host would have them."""

from __future__ import annotations

import posixpath
from typing import Any

from jupyter_server.services.contents.checkpoints import AsyncCheckpoints
from tornado.web import HTTPError

from .models import time_of

_ID = "checkpoint"
CHECKPOINTS = ".ipynb_checkpoints"


class HostCheckpoints(AsyncCheckpoints):
    """One checkpoint of each file. `parent` is the contents manager."""

    @property
    def _drive(self) -> Any:
        parent: Any = self.parent
        return parent.drive

    @staticmethod
    def _path(path: str) -> str:
        directory, name = posixpath.split(path.strip("/"))
        stem, suffix = posixpath.splitext(name)
        return posixpath.join(directory, CHECKPOINTS, f"{stem}-{_ID}{suffix}")

    async def create_checkpoint(self, contents_mgr: Any, path: str) -> dict[str, Any]:
        kept = self._path(path)
        directory = posixpath.dirname(kept)
        await self._drive.ask(lambda f, *at: f.make_directory(*at, create=False), directory)
        to = self._drive.place(kept)
        entry = await self._drive.ask(lambda f, *at: f.copy(*at, *to, create=False), path)
        return {"id": _ID, "last_modified": time_of(entry.modified)}

    async def restore_checkpoint(self, contents_mgr: Any, checkpoint_id: str, path: str) -> None:
        self._check(checkpoint_id)
        to = self._drive.place(path.strip("/"))
        await self._drive.ask(lambda f, *at: f.copy(*at, *to, create=False), self._path(path))

    async def list_checkpoints(self, path: str) -> list[dict[str, Any]]:
        try:
            entry = await self._drive.ask(lambda f, *at: f.stat(*at), self._path(path))
        except HTTPError as error:
            if error.status_code in (403, 404):
                return []
            raise
        return [{"id": _ID, "last_modified": time_of(entry.modified)}]

    async def delete_checkpoint(self, checkpoint_id: str, path: str) -> None:
        self._check(checkpoint_id)
        await self._drive.ask(lambda f, *at: f.remove(*at), self._path(path))

    async def rename_checkpoint(self, checkpoint_id: str, old_path: str, new_path: str) -> None:
        self._check(checkpoint_id)
        new = self._path(new_path)
        directory = posixpath.dirname(new)
        await self._drive.ask(lambda f, *at: f.make_directory(*at, create=False), directory)
        to = self._drive.place(new)
        await self._drive.ask(lambda f, *at: f.copy(*at, *to, create=False), self._path(old_path))
        await self.delete_checkpoint(checkpoint_id, old_path)

    @staticmethod
    def _check(checkpoint_id: str) -> None:
        if checkpoint_id != _ID:
            raise HTTPError(404, f"there is no checkpoint {checkpoint_id}")
