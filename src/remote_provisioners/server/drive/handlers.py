"""Jupyter's contents API for each host, and downloads.

``…/hosts/HOST/contents/PATH`` speaks as ``/api/contents/PATH`` does; ``…/hosts/HOST/files/PATH``
as ``/files/PATH``.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
from typing import Any
from urllib.parse import quote

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.contents.handlers import (
    CheckpointsHandler,
    ContentsHandler,
    ModifyCheckpointsHandler,
    TrustNotebooksHandler,
)
from jupyter_server.utils import url_escape, url_path_join
from tornado import web

from ...files.host_files import HostFiles, Reading
from ...io_thread import io_thread
from .contents import HostContents, translated
from .drives import Drives
from .models import Model

try:
    from jupyter_client.jsonutil import json_default
except ImportError:  # it moved
    from jupyter_client.jsonutil import date_default as json_default

DRIVES = "remote_provisioners_drives"
_MOST = 1_000_000
_RANGE = re.compile(r"bytes=(\d+)-")


class OfHost(JupyterHandler):
    """A handler for the contents of one host: the argument `host` of its path."""

    _contents: HostContents | None = None

    async def prepare(self, **options: Any) -> None:
        await super().prepare(**options)
        self._host = self.path_kwargs.pop("host")
        if not self._finished and self.current_user:
            drives: Drives = self.settings[DRIVES]
            self._contents = await drives.of(self._host)

    def on_finish(self) -> None:
        """Drop the body: handlers are in reference cycles, so many may wait for the collector."""
        super().on_finish()
        self.request.body = b""

    @property
    def contents_manager(self) -> Any:
        return self._contents


class HostContentsHandler(OfHost, ContentsHandler):
    _model: Any = None
    _keeps = False

    def location_url(self, path: str) -> str:
        root = url_path_join(self.base_url, "remote-provisioners/api/v1/hosts")
        location: str = url_path_join(root, url_escape(self._host), "contents", url_escape(path))
        return location

    @web.authenticated
    @authorized
    async def get(self, path: str = "") -> None:
        """As ContentsHandler's, with the argument `most`: see HostContents.get.

        A thread writes the answer, because a directory may be large.
        """
        self._keeps = True
        if self.get_query_argument("most", ""):
            self._model = await self._first(path)
        else:
            await ensure_async(super().get(path))
        if self._model is not None:
            text = await asyncio.to_thread(json.dumps, self._model, default=json_default)
            self.set_header("Last-Modified", self._model["last_modified"])
            self.set_header("Content-Type", "application/json")
            await self.finish(text)

    async def _first(self, path: str) -> Model:
        """Raises HTTPError."""
        contents: HostContents = self.contents_manager
        if not contents.allow_hidden and await contents.is_hidden(path):
            raise web.HTTPError(404)
        most = self.get_query_argument("most")
        if not most.isdecimal() or int(most) > _MOST:
            raise web.HTTPError(400, f"most must be a number up to {_MOST:,}")
        containing = self.get_query_argument("containing", "", strip=False)
        return await contents.get(path, most=int(most), containing=containing)

    def _finish_model(self, model: Any, location: bool = True) -> None:
        if self._keeps:
            self._model = model
        else:
            super()._finish_model(model, location)


class HostCheckpointsHandler(OfHost, CheckpointsHandler):
    pass


class HostCheckpointHandler(OfHost, ModifyCheckpointsHandler):
    pass


class HostTrustHandler(OfHost, TrustNotebooksHandler):
    pass


class HostFilesHandler(OfHost):
    """Sends a file as it arrives. A page from a host may not act for the user here."""

    auth_resource = "contents"

    @property
    def content_security_policy(self) -> str:
        return super().content_security_policy + "; sandbox allow-scripts"

    @web.authenticated
    @authorized
    async def head(self, path: str) -> None:
        await self._send(path, body=False)

    @web.authenticated
    @authorized
    async def get(self, path: str) -> None:
        await self._send(path, body=True)

    async def _send(self, path: str, body: bool) -> None:
        contents: HostContents = self.contents_manager
        path = path.strip("/")
        if not contents.allow_hidden and await contents.is_hidden(path):
            raise web.HTTPError(404)
        asked = _RANGE.fullmatch(self.request.headers.get("Range", ""))
        offset = int(asked[1]) if asked else 0

        async def open_it(files: HostFiles, root: str, below: str) -> tuple[Any, Reading]:
            context = files.read(root, below, offset)
            return context, await context.__aenter__()

        context, reading = await contents.drive.ask(open_it, path)
        try:
            self._describe(path, reading.entry.size, offset if asked else None)
            left = max(0, reading.entry.size - offset) if body else 0
            while left:
                chunk = await translated(io_thread().call(reading.chunk()))
                if not chunk:
                    break  # somebody has shortened it: the connection ends too early
                self.write(chunk[:left])
                left -= min(left, len(chunk))
                await self.flush()
        finally:
            await io_thread().call(context.__aexit__(None, None, None))

    def _describe(self, path: str, size: int, offset: int | None) -> None:
        """The headers. Raises HTTPError."""
        name = path.rpartition("/")[2]
        if offset is not None:
            if offset >= size:
                self.set_header("Content-Range", f"bytes */{size}")
                raise web.HTTPError(416)
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {offset}-{size - 1}/{size}")
        self.set_header("Content-Length", size - (offset or 0))
        self.set_header("Accept-Ranges", "bytes")
        kind = (
            "application/x-ipynb+json" if name.endswith(".ipynb") else mimetypes.guess_type(name)[0]
        )
        self.set_header("Content-Type", kind or "application/octet-stream")
        self.set_header("X-Content-Type-Options", "nosniff")
        if self.get_query_argument("download", "") or kind is None:
            self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")


def routes(base_url: str) -> list[tuple[str, Any]]:
    root = url_path_join(base_url, "remote-provisioners/api/v1/hosts") + r"/(?P<host>[^/]+)"
    path = r"(?P<path>(?:/[^/]+)*/?)"
    checkpoint = r"(?P<checkpoint_id>[\w-]+)"
    return [
        (rf"{root}/contents{path}/checkpoints", HostCheckpointsHandler),
        (rf"{root}/contents{path}/checkpoints/{checkpoint}", HostCheckpointHandler),
        (rf"{root}/contents{path}/trust", HostTrustHandler),
        (rf"{root}/contents{path}", HostContentsHandler),
        (rf"{root}/files{path}", HostFilesHandler),
    ]
