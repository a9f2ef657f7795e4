"""Uploads in pieces, each in a request of its own (JupyterLab's `chunk`)."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from tornado.web import HTTPError

from ...files.host_files import HostFiles, Writing
from ...io_thread import io_thread
from ...protocol.files import Entry

#: An upload whose next piece does not come is given up. Nothing of it is left then.
_PATIENCE_SECONDS = 120.0
_LAST = -1


@dataclass(eq=False)
class _Upload:
    context: AbstractAsyncContextManager[Writing]
    writing: Writing
    next: int = 1
    size: int = 0
    #: Whether a request sends a piece of it to the host.
    sending: bool = True
    timer: asyncio.TimerHandle | None = None


class Uploads:
    """The uploads in progress to one host. The file appears when all of it has arrived.

    If somebody begins an upload again, such as after a reload of the page, the earlier one is
    given up.
    """

    def __init__(self, drive: Any) -> None:
        self._drive = drive
        self._uploads: dict[str, _Upload] = {}

    async def save(self, path: str, number: int, data: bytes) -> Entry:
        """Take the next piece: 1, 2 and so on, and -1 for the last one. Raises HTTPError."""
        upload = await (self._begin(path) if number == 1 else self._resume(path, number))

        async def send(files: HostFiles, root: str, below: str) -> Entry | None:
            try:
                await upload.writing.chunk(data)
                entry = await upload.writing.keep() if number == _LAST else None
            except BaseException as error:
                await upload.context.__aexit__(type(error), error, error.__traceback__)
                raise
            if entry is not None:
                await upload.context.__aexit__(None, None, None)
            return entry

        try:
            entry = await self._drive.ask(send, path)
        except BaseException:
            self._forget(path, upload)
            raise
        if entry is not None:
            self._forget(path, upload)
            return entry
        if self._uploads.get(path) is not upload:
            await self._give_up(upload)
            raise _interrupted(path)
        upload.next += 1
        upload.size += len(data)
        upload.sending = False
        loop = asyncio.get_running_loop()
        upload.timer = loop.call_later(_PATIENCE_SECONDS, self._expire, path, upload)
        return Entry(name=path.rpartition("/")[2], size=upload.size, writable=True)

    async def _begin(self, path: str) -> _Upload:
        async def begin(files: HostFiles, root: str, below: str) -> _Upload:
            context = files.write(root, below)
            return _Upload(context, await context.__aenter__())

        upload: _Upload = await self._drive.ask(begin, path)
        earlier = self._uploads.get(path)
        self._uploads[path] = upload
        if earlier is not None and not earlier.sending:  # else its request gives it up
            await self._give_up(earlier)
        return upload

    async def _resume(self, path: str, number: int) -> _Upload:
        """The upload that waits for this piece. Raises HTTPError."""
        upload = self._uploads.get(path)
        if upload is None or upload.sending:
            raise _interrupted(path)
        if number not in (upload.next, _LAST):
            self._forget(path, upload)
            await self._give_up(upload)
            raise _interrupted(path)
        upload.sending = True
        if upload.timer is not None:
            upload.timer.cancel()
        return upload

    def _forget(self, path: str, upload: _Upload) -> None:
        if self._uploads.get(path) is upload:
            del self._uploads[path]

    def _expire(self, path: str, upload: _Upload) -> None:
        self._forget(path, upload)
        self._giving_up = asyncio.ensure_future(self._give_up(upload))

    @staticmethod
    async def _give_up(upload: _Upload) -> None:
        if upload.timer is not None:
            upload.timer.cancel()
        await io_thread().call(upload.context.__aexit__(None, None, None))


def _interrupted(path: str) -> HTTPError:
    return HTTPError(400, f"the upload of {path} was interrupted: begin again")
