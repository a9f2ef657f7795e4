"""The files of a host, below the caller's directories. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..errors import RemoteProvisionerError, UnreachableError
from ..hosts.host import Host
from ..protocol import files
from ..protocol.files import FILE_SOCKET, Entry, FileAnswer, FileRequest, Listed
from .connection import FileConnection
from .errors import FileError

#: Connections that wait for the next request, and for how long.
_SPARE = 4
_SPARE_SECONDS = 30.0
_OLD = "the host's agent serves no files: its version is too old"


class HostFiles:
    """`roots`: directories of the host, in which ``~`` is the user's home.

    A path is a root and a path relative to it. Every method raises FileError and HostError.
    """

    def __init__(self, host: Host, roots: Sequence[str]) -> None:
        self._host = host
        self.roots = tuple(roots)
        self._spare: list[FileConnection] = []

    async def stat(self, root: str, path: str, follow: bool = True) -> Entry:
        return await self._ask(files.STAT, root, path, follow=follow)

    async def make_directory(self, root: str, path: str, create: bool = True) -> Entry:
        """`create`: fail if it exists."""
        return await self._ask(files.MAKE_DIRECTORY, root, path, create=create)

    async def rename(self, root: str, path: str, to_root: str, to_path: str) -> Entry:
        """Fails if the new path exists."""
        to = {"to_root": to_root, "to_path": to_path}
        return await self._ask(files.RENAME, root, path, create=True, follow=False, **to)

    async def copy(
        self, root: str, path: str, to_root: str, to_path: str, create: bool = True
    ) -> Entry:
        """Copy a file on the host. `create`: fail if the new path exists."""
        to = {"to_root": to_root, "to_path": to_path}
        return await self._ask(files.COPY, root, path, create=create, **to)

    async def remove(self, root: str, path: str, recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory. `recursive`: with its content."""
        await self._end(files.REMOVE, root, path, recursive=recursive)

    async def trash(self, root: str, path: str) -> None:
        """Move a file, a link or a directory to the user's trash."""
        await self._end(files.TRASH, root, path)

    async def _end(self, op: str, root: str, path: str, **how: Any) -> None:
        async with self._connection() as connection:
            await connection.say(self._request(op, root, path, follow=False, **how))
            self._checked(await connection.hear(FileAnswer), path)

    async def first(self, root: str, path: str, **how: Any) -> tuple[list[Entry], int]:
        """The first entries of a directory, and how many others there are.

        `how`: fields of FileRequest. Without `most`, all entries are listed, in no order.
        """
        rows: list[Any] = []
        async with self._connection() as connection:
            await connection.say(self._request(files.LIST, root, path, **how))
            self._checked(await connection.hear(FileAnswer), path)
            more = True
            while more:
                listed = await connection.hear(Listed)
                rows += listed.entries
                more = listed.more
        # In a thread: a directory may have 100,000 entries.
        return await asyncio.to_thread(entries_of, rows), listed.left_out

    async def list(self, root: str, path: str) -> list[Entry]:
        """The entries of a directory, in no order."""
        return (await self.first(root, path))[0]

    @contextlib.asynccontextmanager
    async def read(self, root: str, path: str, offset: int = 0) -> AsyncIterator[Reading]:
        """A file's entry and content."""
        async with self._connection() as connection:
            await connection.say(self._request(files.READ, root, path, offset=offset))
            answer = self._checked(await connection.hear(FileAnswer), path)
            assert answer.entry is not None
            reading = Reading(self, connection, path, answer.entry)
            try:
                yield reading
            finally:
                if not reading.over:
                    connection.close()

    @contextlib.asynccontextmanager
    async def write(self, root: str, path: str, **how: Any) -> AsyncIterator[Writing]:
        """Replace a file's content as a whole. `how`: fields of FileRequest."""
        async with self._connection() as connection:
            await connection.say(self._request(files.WRITE, root, path, **how))
            answer = self._checked(await connection.hear(FileAnswer), path)
            writing = Writing(self, connection, path, answer.offset)
            try:
                yield writing
            finally:
                if not writing.over:
                    connection.close()

    def close(self) -> None:
        for spare in self._spare:
            spare.close()
        self._spare.clear()

    # -- connections ------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[FileConnection]:
        connection = await self._open()
        try:
            yield connection
        except FileError:
            self._keep(connection)
            raise
        except RemoteProvisionerError as error:
            connection.close()
            raise error if error.host else error.at(self._host.name) from None
        except BaseException:
            connection.close()
            raise
        self._keep(connection)

    async def _open(self) -> FileConnection:
        while self._spare:
            spare = self._spare.pop()
            if not spare.lost and not spare.spoken:
                return spare
            spare.close()
        link = await self._host.link()
        try:
            path = f"{link.agent.directory}/{FILE_SOCKET}"
            opened = await link.transport.open(path, FileConnection)
        except ConnectionError as error:
            raise UnreachableError(f"{_OLD} ({error})", host=self._host.name) from None
        assert isinstance(opened, FileConnection)
        opened.ends_with(link.transport.wait_closed())
        return opened

    def _keep(self, connection: FileConnection) -> None:
        if connection.lost or connection.spoken or len(self._spare) >= _SPARE:
            connection.close()
            return
        self._spare.append(connection)
        asyncio.get_running_loop().call_later(_SPARE_SECONDS, self._drop, connection)

    def _drop(self, connection: FileConnection) -> None:
        if connection in self._spare:
            self._spare.remove(connection)
            connection.close()

    # -- requests ---------------------------------------------------------------------------

    async def _ask(self, op: str, root: str, path: str, **how: Any) -> Entry:
        async with self._connection() as connection:
            await connection.say(self._request(op, root, path, **how))
            entry = self._checked(await connection.hear(FileAnswer), path).entry
            assert entry is not None
            return entry

    def _request(self, op: str, root: str, path: str, **how: Any) -> FileRequest:
        return FileRequest(op=op, roots=self.roots, root=root, path=path, **how)

    def _checked(self, answer: FileAnswer, path: str) -> FileAnswer:
        if answer.error:
            text = f"{path or '/'}: {answer.message}".encode("utf-8", "replace").decode()
            raise FileError(text, host=self._host.name, code=answer.error)
        return answer


class Reading:
    """Reads a file's content."""

    def __init__(
        self, owner: HostFiles, connection: FileConnection, path: str, entry: Entry
    ) -> None:
        self.entry = entry
        self.over = False
        self._owner, self._connection, self._path = owner, connection, path

    async def chunk(self) -> bytes:
        """The next part; nothing at the end."""
        if self.over:
            return b""
        data = await self._connection.hear_chunk()
        if not data:
            self._owner._checked(await self._connection.hear(FileAnswer), self._path)
            self.over = True
        return data


class Writing:
    """Sends a file's content. `offset`: the host has this many bytes of it already."""

    def __init__(
        self, owner: HostFiles, connection: FileConnection, path: str, offset: int
    ) -> None:
        self.offset = offset
        self.over = False
        self._owner, self._connection, self._path = owner, connection, path

    async def chunk(self, data: bytes) -> None:
        """Send a part."""
        for at in range(0, len(data), files.CHUNK_BYTES):
            if self._connection.spoken or self._connection.lost:  # it could not be written
                await self._end()
            await self._connection.send_chunk(data[at : at + files.CHUNK_BYTES])

    async def keep(self) -> Entry:
        """Call this after the last part: replaces the file."""
        if not self._connection.spoken:
            await self._connection.send_chunk(b"")
        return await self._end()

    async def _end(self) -> Entry:
        answer = self._owner._checked(await self._connection.hear(FileAnswer), self._path)
        assert answer.entry is not None
        self.over = True
        return answer.entry


def entries_of(rows: Sequence[Any]) -> list[Entry]:
    """The entries in the rows of Listed."""
    names = list(Entry._fields)
    return [Entry(**dict(zip(names, row, strict=False))) for row in rows]
