"""Copies files and directories between this machine and hosts. Lives in the I/O thread.

An interrupted copy continues. The first part of an incomplete file lies beside it. Files with the
same size and time are not copied again.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from ..protocol.files import DIRECTORY, FILE, WRONG_KIND, Entry
from .errors import FileError
from .sides import Side


@dataclass
class Progress:
    """The state of a copy. `total`: the size of all files found so far."""

    files: int = 0
    same: int = 0
    done: int = 0
    total: int = 0
    #: Bytes that an interrupted copy had left.
    earlier: int = 0
    name: str = ""


class Copying:
    """One copy. Calls `on_progress` often, and `on_trouble` for each file that it cannot copy."""

    def __init__(
        self,
        source: Side,
        destination: Side,
        on_progress: Callable[[Progress], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.progress = Progress()
        self._source, self._destination = source, destination
        self._on_progress, self._on_trouble = on_progress, on_trouble

    async def copy(self, path: str, to: str, recursive: bool, inside: bool) -> None:
        """Copy `path` to `to`; `inside`: into the directory `to`, under the name of `path`.

        Raises FileError, HostError.
        """
        entry = await self._source.stat(path)
        existing = await self._destination.found(to)
        if inside:
            self._require_directory(to, existing)
        elif existing is None:
            above = posixpath.dirname(to)
            self._require_directory(above, await self._destination.found(above))
        if existing is not None and existing.kind == DIRECTORY:
            to = posixpath.join(to, posixpath.basename(path.rstrip("/")))
        if entry.kind == FILE:
            self.progress.total += entry.size
            await self._file(entry, path, to)
        elif entry.kind == DIRECTORY and recursive:
            await self._directory(path, to)
        else:
            is_directory = entry.kind == DIRECTORY
            what = "a directory (copy it with -r)" if is_directory else "not a regular file"
            raise FileError(f"{self._source.prefix}{path}: it is {what}", code=WRONG_KIND)

    def _require_directory(self, path: str, found: Entry | None) -> None:
        if found is None or found.kind != DIRECTORY:
            text = f"{self._destination.prefix}{path}: there is no such directory"
            raise FileError(text, code=WRONG_KIND)

    async def _directory(self, path: str, to: str) -> None:
        """Copy the files of a directory. If one file fails, the others are still copied."""
        await self._destination.make_directory(to)
        found = [file async for file in self._inside(path, to)]
        for entry, source, target in found:
            try:
                await self._file(entry, source, target)
            except FileError as error:
                self._on_trouble(str(error))

    async def _inside(self, path: str, to: str) -> AsyncIterator[tuple[Entry, str, str]]:
        """The files below a directory. Makes the directories on the other side."""
        try:
            entries = await self._source.list(path)
        except FileError as error:
            self._on_trouble(str(error))
            return
        for entry in sorted(entries, key=lambda entry: entry.name):
            source, target = posixpath.join(path, entry.name), posixpath.join(to, entry.name)
            if entry.kind == FILE:
                self.progress.total += entry.size
                self._on_progress(self.progress)
                yield entry, source, target
            elif entry.kind == DIRECTORY and not entry.link:
                try:
                    await self._destination.make_directory(target)
                except FileError as error:
                    self._on_trouble(str(error))
                    continue
                async for file in self._inside(source, target):
                    yield file
            else:
                what = f"a link to {entry.link}" if entry.link else "not a regular file"
                self._on_trouble(f"{self._source.prefix}{source}: left out, it is {what}")

    async def _file(self, entry: Entry, path: str, to: str) -> None:
        progress = self.progress
        progress.name = entry.name
        existing = await self._destination.found(to)
        if existing is not None and _same(existing, entry):
            progress.same += 1
            progress.done += entry.size
            self._on_progress(progress)
            return
        async with self._destination.write(to, entry) as writing:
            progress.done += writing.offset
            progress.earlier += writing.offset
            async with self._source.read(path, writing.offset) as reading:
                while data := await reading.chunk():
                    await writing.chunk(data)
                    progress.done += len(data)
                    self._on_progress(progress)
            await writing.keep()
        progress.files += 1
        self._on_progress(progress)


def _same(one: Entry, other: Entry) -> bool:
    return one.kind == FILE and (one.size, one.modified) == (other.size, other.modified)
