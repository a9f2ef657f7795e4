"""Uploads of the same file at the same time, and those that nobody goes on with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tornado.web import HTTPError

from remote_provisioners.io_thread import close_io_thread
from remote_provisioners.protocol.files import Entry
from remote_provisioners.server.drive import uploads as module
from remote_provisioners.server.drive.uploads import Uploads


class Host:
    """A drive and its files. A file appears when it is kept. `go`: pieces arrive."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.open = 0
        self.go = asyncio.Event()

    async def ask(self, use: Any, path: str) -> Any:
        return await use(self, "~", path)

    @contextlib.asynccontextmanager
    async def write(self, root: str, below: str) -> AsyncIterator[Draft]:
        self.open += 1
        try:
            yield Draft(self, below)
        finally:
            self.open -= 1


class Draft:
    def __init__(self, host: Host, path: str) -> None:
        self._host, self._path = host, path
        self._data = b""

    async def chunk(self, data: bytes) -> None:
        await self._host.go.wait()
        self._data += data

    async def keep(self) -> Entry:
        self._host.files[self._path] = self._data
        return Entry(name=self._path, size=len(self._data))


@pytest.fixture(autouse=True)
def io_thread() -> Iterator[None]:
    yield
    close_io_thread()


async def interrupted(upload: Any) -> None:
    with pytest.raises(HTTPError, match="was interrupted: begin again"):
        await upload


def test_an_upload_that_begins_again_replaces_the_earlier_one() -> None:
    """The page was reloaded while a piece was on its way."""

    async def use() -> None:
        host = Host()
        uploads = Uploads(host)
        earlier = asyncio.ensure_future(uploads.save("a", 1, b"old"))
        await asyncio.sleep(0)
        later = asyncio.ensure_future(uploads.save("a", 1, b"new"))
        await asyncio.sleep(0)
        host.go.set()
        await interrupted(earlier)
        await later
        assert host.open == 1
        await uploads.save("a", 2, b" one")
        await uploads.save("a", -1, b".")
        assert host.files == {"a": b"new one."}
        assert host.open == 0

    asyncio.run(use())


def test_nothing_is_left_of_what_nobody_goes_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        host = Host()
        host.go.set()
        uploads = Uploads(host)
        await uploads.save("a", 1, b"x")
        await interrupted(uploads.save("a", 3, b"x"))
        await interrupted(uploads.save("a", 2, b"x"))
        assert host.open == 0
        await uploads.save("a", 1, b"x")
        await uploads.save("a", 1, b"y")
        assert host.open == 1
        await uploads.save("a", -1, b"z")
        assert host.files == {"a": b"yz"}
        monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.0)
        await uploads.save("a", 1, b"x")
        while host.open:
            await asyncio.sleep(0.01)
        await interrupted(uploads.save("a", 2, b"x"))

    asyncio.run(asyncio.wait_for(use(), 30))
