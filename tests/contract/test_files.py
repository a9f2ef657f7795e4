"""Files of a host, whichever way leads to the host."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from remote_provisioners.files.errors import FileError
from remote_provisioners.files.host_files import HostFiles
from remote_provisioners.files.pool import file_pool
from remote_provisioners.hosts.registry import host_registry
from remote_provisioners.io_thread import io_thread
from remote_provisioners.options.config import RemoteProvisionerConfigMixin
from remote_provisioners.protocol import files as protocol

T = TypeVar("T")

SECONDS = 120.0
ROOT = "~/files-of-a-test"


async def files_below(root: str, host: str) -> HostFiles:
    spec = RemoteProvisionerConfigMixin().host_spec(host)
    return (await file_pool()).of((await host_registry()).host(spec), [root])


def with_files(host: str, use: Callable[[HostFiles], Awaitable[T]], root: str = ROOT) -> T:
    """Use the files of a host below a new directory of its home, which is removed afterwards."""

    async def body() -> T:
        home = await files_below("~", host)
        name = root.removeprefix("~/")
        await home.make_directory("~", name)
        try:
            return await use(await files_below(root, host))
        finally:
            await home.remove("~", name, recursive=True)

    return io_thread().call_blocking(body(), SECONDS)


async def put(files: HostFiles, path: str, data: bytes, **how: Any) -> protocol.Entry:
    async with files.write(ROOT, path, **how) as writing:
        await writing.chunk(data[writing.offset :])
        return await writing.keep()


async def get(files: HostFiles, path: str, offset: int = 0) -> bytes:
    async with files.read(ROOT, path, offset) as reading:
        data = b""
        while piece := await reading.chunk():
            data += piece
        return data


async def give_up(files: HostFiles, data: bytes, **how: Any) -> None:
    """Write something and leave before the end."""
    async with files.write(ROOT, "a", **how) as writing:
        await writing.chunk(data)


async def refused(asked: Awaitable[Any]) -> str:
    with pytest.raises(FileError) as error:
        await asked
    return error.value.code


def test_what_can_be_done_with_files(host: str) -> None:
    data = bytes(range(256)) * 20_000

    async def use(files: HostFiles) -> None:
        assert await files.list(ROOT, "") == []
        entry = await put(files, "a", data)
        assert (entry.name, entry.size, entry.kind) == ("a", len(data), protocol.FILE)
        assert await get(files, "a") == data
        assert await get(files, "a", len(data) - 5) == data[-5:]
        assert await get(files, "a", len(data) + 5) == b""
        (listed,) = await files.list(ROOT, "")
        assert (listed.name, listed.size, listed.writable) == ("a", len(data), True)
        assert listed.modified == entry.modified == (await files.stat(ROOT, "a")).modified

        await files.make_directory(ROOT, "d")
        assert await refused(files.make_directory(ROOT, "d")) == protocol.EXISTS
        assert (await files.copy(ROOT, "a", ROOT, "d/b")).name == "b"
        assert await refused(files.copy(ROOT, "a", ROOT, "d/b")) == protocol.EXISTS
        assert await get(files, "d/b") == data
        await files.rename(ROOT, "d/b", ROOT, "c")
        assert await refused(files.rename(ROOT, "a", ROOT, "c")) == protocol.EXISTS
        assert sorted(e.name for e in await files.list(ROOT, "")) == ["a", "c", "d"]
        await put(files, "d/x", b"")
        assert await refused(files.remove(ROOT, "d")) == protocol.NOT_EMPTY
        await files.remove(ROOT, "d", recursive=True)
        await files.remove(ROOT, "c")
        assert [e.name for e in await files.list(ROOT, "")] == ["a"]

        await files.make_directory(ROOT, "d")
        await put(files, "d/x", b"")
        await files.trash(ROOT, "d")
        await put(files, "d", b"2")
        await files.trash(ROOT, "d")
        assert [e.name for e in await files.list(ROOT, "")] == ["a"]
        assert await refused(files.trash(ROOT, "d")) == protocol.NOT_FOUND
        home = await files_below("~", host)
        names = {e.name for e in await home.list("~", ".local/share/Trash/files")}
        assert len(names) == 2
        assert "d" in names
        await home.remove("~", ".local/share/Trash", recursive=True)
        assert await refused(files.trash(ROOT, "")) == protocol.DENIED

        for path in ("nosuch", "a/b", "nosuch/b"):
            assert await refused(files.stat(ROOT, path)) == protocol.NOT_FOUND
            assert await refused(get(files, path)) == protocol.NOT_FOUND
        assert await refused(get(files, "")) == protocol.WRONG_KIND
        assert await refused(files.list(ROOT, "a")) == protocol.NOT_FOUND
        assert await refused(files.remove(ROOT, "")) == protocol.DENIED

    with_files(host, use)


def test_the_first_entries_of_a_large_directory(host: str) -> None:
    async def use(files: HostFiles) -> None:
        for name in ("f9", "F10", "f10a", ".hidden", "g"):
            await put(files, name, b"x")
        await files.make_directory(ROOT, "z")

        async def first(most: int, **how: Any) -> tuple[list[str], int]:
            entries, left_out = await files.first(ROOT, "", most=most, **how)
            assert all(entry.modified and entry.writable for entry in entries)
            return [entry.name for entry in entries], left_out

        assert await first(9) == (["z", ".hidden", "f9", "F10", "f10a", "g"], 0)
        assert await first(3, hidden=False) == (["z", "f9", "F10"], 2)
        assert await first(1, containing="F1", hidden=False) == (["F10"], 1)
        assert await first(9, containing="nosuch") == ([], 0)

    with_files(host, use)


def test_a_save_is_whole_and_never_over_somebody_elses(host: str) -> None:
    async def use(files: HostFiles) -> None:
        first = await put(files, "a", b"first", mode=0o640)
        assert first.mode & 0o777 == (await files.stat(ROOT, "a")).mode & 0o777
        second = await put(files, "a", b"second", expected=first.modified)
        assert second.mode == first.mode
        assert await refused(put(files, "a", b"third", expected=first.modified)) == protocol.CHANGED
        assert await get(files, "a") == b"second"
        assert await refused(put(files, "a", b"new", create=True)) == protocol.EXISTS
        await put(files, "b", b"new", create=True)
        await files.remove(ROOT, "b")
        assert await refused(put(files, "b", b"x", expected=first.modified)) == protocol.CHANGED

        # Somebody else writes it while we send.
        async with files.write(ROOT, "a", expected=second.modified) as writing:
            await writing.chunk(b"ours")
            await put(files, "a", b"theirs")
            assert await refused(writing.keep()) == protocol.CHANGED
        assert await get(files, "a") == b"theirs"

        # A writer that gives up leaves the file as it was, and nothing beside it.
        await give_up(files, bytes(1_000_000))
        for _ in range(100):
            if [e.name for e in await files.list(ROOT, "")] == ["a"]:
                break
            await asyncio.sleep(0.05)
        assert [e.name for e in await files.list(ROOT, "")] == ["a"]
        assert await get(files, "a") == b"theirs"

    with_files(host, use)


def test_an_interrupted_writer_continues(host: str) -> None:
    data = os.urandom(3_000_000)

    async def use(files: HostFiles) -> None:
        await give_up(files, data[:2_000_000], resume="this")
        async with files.write(ROOT, "a", resume="another") as writing:
            assert writing.offset == 0
        async with files.write(ROOT, "a", resume="this") as writing:
            assert 0 <= writing.offset <= 2_000_000  # what was on its way may be lost
            assert writing.offset or host != "localhost"
            await writing.chunk(data[writing.offset :])
            await writing.keep()
        assert await get(files, "a") == data

    with_files(host, use)


def test_readers_and_writers_at_the_same_time(host: str) -> None:
    contents = {f"f{number}": os.urandom(700_000) for number in range(12)}

    async def use(files: HostFiles) -> None:
        await asyncio.gather(*(put(files, name, data) for name, data in contents.items()))
        found = await asyncio.gather(*(get(files, name) for name in contents))
        assert found == list(contents.values())

    with_files(host, use)


def test_links_and_permissions(host: str, tmp_path: Path) -> None:
    if host != "localhost":
        pytest.skip("looks at the files themselves")
    directory = Path(os.path.expanduser(ROOT))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")

    async def use(files: HostFiles) -> None:
        inner = directory / "inner"
        inner.mkdir()
        (inner / "file").write_text("x")
        for name, target in (
            ("near", "inner/file"),
            ("up", "inner/../inner/file"),
            ("absolute", str(inner / "file")),
            ("around", f"../{directory.name}/inner/file"),
            ("out", "../../../../../../etc/passwd"),
            ("away", str(outside)),
            ("dangling", "nosuch"),
            ("loop", "loop"),
            ("proc", "/proc/self/root/etc/passwd"),
        ):
            (directory / name).symlink_to(target)
        os.mkfifo(directory / "pipe")
        listed = {e.name: e for e in await files.list(ROOT, "")}
        kinds = {name: entry.kind for name, entry in listed.items()}
        inside = dict.fromkeys(("near", "up", "absolute", "around"), protocol.FILE)
        other = ("out", "away", "dangling", "loop", "proc", "pipe")
        assert kinds == {**inside, **dict.fromkeys(other, protocol.OTHER), "inner": "directory"}
        assert listed["near"].link == "inner/file"
        for name in inside:
            assert await get(files, name) == b"x"
        for name in ("out", "away", "away/secret", "proc"):
            for asked in (get(files, name), files.stat(ROOT, name), put(files, name, b"x")):
                assert await refused(asked) == protocol.OUTSIDE
        assert await refused(files.list(ROOT, "away")) == protocol.OUTSIDE
        assert await refused(get(files, "loop")) == protocol.WRONG_KIND
        assert await refused(get(files, "pipe")) == protocol.WRONG_KIND
        assert await refused(files.copy(ROOT, "away/secret", ROOT, "stolen")) == protocol.OUTSIDE
        assert await refused(files.rename(ROOT, "near", ROOT, "away/x")) == protocol.OUTSIDE
        # A link is what is renamed and removed, not what it leads to.
        await files.rename(ROOT, "away", ROOT, "moved")
        await files.remove(ROOT, "moved", recursive=True)
        assert (outside / "secret").exists()
        # A save follows a link, and keeps it.
        (inner / "file").chmod(0o604)
        await put(files, "near", b"new")
        assert (directory / "near").is_symlink()
        assert (inner / "file").read_text() == "new"
        assert stat.S_IMODE((inner / "file").stat().st_mode) == 0o604
        for path in ("../x", "a/../../x", "..", "a\0b"):
            assert await refused(files.stat(ROOT, path)) == protocol.BAD_NAME
        assert await refused(files.stat("/", "etc/passwd")) == protocol.OUTSIDE

    with_files(host, use)
