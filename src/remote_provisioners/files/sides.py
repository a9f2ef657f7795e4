"""The two sides of a copy: this machine, or a host. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from ..agent.files.content import NewContent
from ..agent.files.entries import entry_of, listed
from ..agent.files.operations import open_file, refusal
from ..agent.files.places import PlaceError, Roots
from ..protocol import files
from ..protocol.files import Entry, FileRequest
from .errors import FileError
from .host_files import HostFiles, entries_of

T = TypeVar("T")

_EVERYTHING = "/"
_PIECE_BYTES = 4 * files.CHUNK_BYTES


class Source(Protocol):
    """A file that is read."""

    async def chunk(self) -> bytes:
        """The next part; nothing at the end."""


class Destination(Protocol):
    """A file that is written."""

    #: The bytes that an interrupted copy has left.
    offset: int

    async def chunk(self, data: bytes) -> None:
        """Write a part."""

    async def keep(self) -> Entry:
        """Call this after the last part: replaces the file."""


class Side(ABC):
    """Paths are absolute. Raises FileError, HostError."""

    #: Stands before a path in messages.
    prefix = ""

    @abstractmethod
    async def stat(self, path: str) -> Entry: ...

    @abstractmethod
    async def list(self, path: str) -> list[Entry]: ...

    @abstractmethod
    async def make_directory(self, path: str) -> None:
        """If it does not exist."""

    @abstractmethod
    def read(self, path: str, offset: int) -> AbstractAsyncContextManager[Source]: ...

    @abstractmethod
    def write(self, path: str, source: Entry) -> AbstractAsyncContextManager[Destination]:
        """`source`: the copied file, with its permissions and time."""

    async def found(self, path: str) -> Entry | None:
        """The entry at `path`; None if there is none."""
        try:
            return await self.stat(path)
        except FileError as error:
            if error.code != files.NOT_FOUND:
                raise
            return None


def _resume(source: Entry) -> str:
    """Names a file's content, so that an interrupted copy of it continues."""
    return f"{source.size} {source.modified}"


class HostSide(Side):
    """A host; `files` must have the root ``/``."""

    def __init__(self, name: str, files: HostFiles) -> None:
        self.prefix = f"{name}:"
        self._files = files

    async def stat(self, path: str) -> Entry:
        return await self._files.stat(_EVERYTHING, path)

    async def list(self, path: str) -> list[Entry]:
        return await self._files.list(_EVERYTHING, path)

    async def make_directory(self, path: str) -> None:
        await self._files.make_directory(_EVERYTHING, path, create=False)

    def read(self, path: str, offset: int) -> AbstractAsyncContextManager[Source]:
        return self._files.read(_EVERYTHING, path, offset)

    def write(self, path: str, source: Entry) -> AbstractAsyncContextManager[Destination]:
        how = {"mode": source.mode, "modified": source.modified, "resume": _resume(source)}
        return self._files.write(_EVERYTHING, path, **how)


class LocalSide(Side):
    """This machine, by the code that the agent has."""

    def __init__(self) -> None:
        self._roots = Roots([_EVERYTHING])

    async def stat(self, path: str) -> Entry:
        def stat() -> Entry:
            with self._roots.place(_EVERYTHING, path) as place:
                return entry_of(place, posixpath.basename(path))

        return await _in_thread(path, stat)

    async def list(self, path: str) -> list[Entry]:
        def rows() -> list[Entry]:
            everything = [_EVERYTHING]
            request = FileRequest(op=files.LIST, roots=everything, root=_EVERYTHING, path=path)
            return entries_of(
                [row for part in listed(self._roots, request) for row in part.entries]
            )

        return await _in_thread(path, rows)

    async def make_directory(self, path: str) -> None:
        await _in_thread(path, lambda: os.makedirs(path, exist_ok=True))

    @contextlib.asynccontextmanager
    async def read(self, path: str, offset: int) -> AsyncIterator[Source]:
        def open_it() -> int:
            with self._roots.place(_EVERYTHING, path) as place:
                return open_file(place)

        descriptor = await _in_thread(path, open_it)
        try:
            yield _LocalSource(descriptor, path, offset)
        finally:
            os.close(descriptor)

    @contextlib.asynccontextmanager
    async def write(self, path: str, source: Entry) -> AsyncIterator[Destination]:
        request = FileRequest(
            op=files.WRITE,
            roots=[_EVERYTHING],
            root=_EVERYTHING,
            path=path,
            mode=source.mode,
            modified=source.modified,
            resume=_resume(source),
        )
        place = await _in_thread(path, lambda: self._roots.place(_EVERYTHING, path))
        with place:
            content = await _in_thread(path, lambda: NewContent(place, request))
            try:
                yield _LocalDestination(content, path)
            finally:
                content.close()


class _LocalSource:
    def __init__(self, descriptor: int, path: str, offset: int) -> None:
        self._descriptor, self._path, self._offset = descriptor, path, offset

    async def chunk(self) -> bytes:
        def read() -> bytes:
            return os.pread(self._descriptor, _PIECE_BYTES, self._offset)

        data = await _in_thread(self._path, read)
        self._offset += len(data)
        return data


class _LocalDestination:
    def __init__(self, content: NewContent, path: str) -> None:
        self.offset = content.size
        self._content, self._path = content, path

    async def chunk(self, data: bytes) -> None:
        await _in_thread(self._path, lambda: self._content.write(data))

    async def keep(self) -> Entry:
        found = await _in_thread(self._path, self._content.keep)
        name = posixpath.basename(self._path)
        return Entry(name=name, size=found.st_size, modified=found.st_mtime_ns)


async def _in_thread(path: str, call: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(call)
    except (OSError, PlaceError) as error:
        said = refusal(error)
        raise FileError(f"{path}: {said.message}", code=said.error) from None
