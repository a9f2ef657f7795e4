"""Jupyter's contents manager for one host. On the server's event loop."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import posixpath
from collections.abc import Coroutine
from typing import Any, TypeVar

import nbformat
from jupyter_server.services.contents.manager import AsyncContentsManager, copy_pat
from tornado.web import HTTPError
from traitlets import Type

from ...errors import RemoteProvisionerError
from ...files.errors import FileError
from ...files.host_files import HostFiles
from ...io_thread import io_thread
from ...protocol import files
from ...protocol.files import DIRECTORY, FILE, Entry
from .checkpoints import CHECKPOINTS, HostCheckpoints
from .models import Model, model_of, models_of, time_of
from .names import meant
from .uploads import Uploads

T = TypeVar("T")

#: A larger content is not held in memory, here and in the browser: it can be downloaded.
_LARGEST = 256 * 1024 * 1024
_HASH = "sha256"
_PIECE_BYTES = 4 * 1024 * 1024


class HostContents(AsyncContentsManager):
    """The files of a host below the operator's directories."""

    checkpoints_class = Type(HostCheckpoints)

    def __init__(self, drive: Drive, trash: bool = False, **kwargs: Any) -> None:
        """`trash`: whether deleted files go to the trash of the host's user."""
        super().__init__(**kwargs)
        self.drive = drive
        self._trash = trash
        self._uploads = Uploads(drive)

    # -- looking ----------------------------------------------------------------------------

    async def file_exists(self, path: str = "") -> bool:
        found = await self._found(path)
        return found is not None and found.kind == FILE

    async def dir_exists(self, path: str) -> bool:
        if self.drive.is_top(path):
            return True
        found = await self._found(path)
        return found is not None and found.kind == DIRECTORY

    async def is_hidden(self, path: str) -> bool:
        return any(part.startswith(".") for part in path.strip("/").split("/"))

    async def _found(self, path: str) -> Entry | None:
        if self.drive.is_top(path):
            return Entry(name="", kind=DIRECTORY)
        try:
            return await self.drive.ask(lambda f, *place: f.stat(*place), path)
        except HTTPError as error:
            if error.status_code == 404:
                return None
            raise

    async def get(
        self,
        path: str,
        content: bool = True,
        type: str | None = None,  # noqa: A002 - Jupyter's
        format: str | None = None,  # noqa: A002
        require_hash: bool = False,
        *,
        most: int = 0,
        containing: str = "",
    ) -> Model:
        """`most`: the greatest number of entries; `containing`: a text that their names contain.

        Then the field left_out of the model says how many others there are.
        """
        path = path.strip("/")
        if self.drive.is_top(path):
            model = model_of(Entry(name="", kind=DIRECTORY), path)
            entries = [Entry(name=name, kind=DIRECTORY, writable=True) for name in self.drive.names]
        else:
            entry = await self.drive.ask(lambda f, *place: f.stat(*place), path)
            if entry.kind not in (FILE, DIRECTORY):
                raise HTTPError(400, f"{path} is not a file")
            model = model_of(entry, path)
        if type == "directory" and model["type"] != "directory":
            raise HTTPError(400, f"{path} is not a directory")
        if type in ("file", "notebook") and model["type"] == "directory":
            raise HTTPError(400, f"{path} is a directory")
        if type == "file":
            model["type"] = "file"
        if not content:
            if require_hash and model["type"] != "directory":
                model |= {"hash": await self._hash(path), "hash_algorithm": _HASH}
            return model
        if model["type"] == "directory":
            if not self.drive.is_top(path):
                how = {"most": most, "containing": containing, "hidden": self.allow_hidden}
                entries, model["left_out"] = await self.drive.ask(
                    lambda f, *place: f.first(*place, **how), path
                )
            # In a thread: a directory may have 100,000 entries.
            listed = await asyncio.to_thread(models_of, entries, path, self.allow_hidden)
            return {**model, "content": listed, "format": "json"}
        data, entry = await self._read(path)
        model = {**model_of(entry, path), "type": model["type"]}
        if require_hash:
            model |= {"hash": hashlib.new(_HASH, data).hexdigest(), "hash_algorithm": _HASH}
        if model["type"] == "notebook":
            return await self._notebook(model, data)
        return _file(model, data, format)

    async def _read(self, path: str) -> tuple[bytes, Entry]:
        async def read(f: HostFiles, root: str, below: str) -> tuple[bytes, Entry]:
            async with f.read(root, below) as reading:
                if reading.entry.size > _LARGEST:
                    raise HTTPError(413, f"{path} is too large to be opened: download it")
                pieces = []
                while piece := await reading.chunk():
                    pieces.append(piece)
                return b"".join(pieces), reading.entry

        return await self.drive.ask(read, path)

    async def _hash(self, path: str) -> str:
        async def read(f: HostFiles, root: str, below: str) -> str:
            found = hashlib.new(_HASH)
            async with f.read(root, below) as reading:
                while piece := await reading.chunk():
                    found.update(piece)
            return found.hexdigest()

        return await self.drive.ask(read, path)

    async def _notebook(self, model: Model, data: bytes) -> Model:
        try:
            notebook = await asyncio.to_thread(nbformat.reads, data.decode(), as_version=4)
        except Exception as error:  # whatever is wrong with it
            path = model["path"]
            raise HTTPError(400, f"{path} cannot be read as a notebook: {error}") from None
        self.mark_trusted_cells(notebook, model["path"])
        model = {**model, "content": notebook, "format": "json"}
        self.validate_notebook_model(model)
        return model

    # -- changing ---------------------------------------------------------------------------

    async def save(self, model: Model, path: str = "") -> Model:
        path = path.strip("/")
        if "type" not in model:
            raise HTTPError(400, "the field type is missing")
        if "content" not in model and model["type"] != "directory":
            raise HTTPError(400, "the field content is missing")
        self.run_pre_save_hooks(model=model, path=path)
        if model["type"] == "directory":
            await self.drive.ask(lambda f, *place: f.make_directory(*place, create=False), path)
            return await self.get(path, content=False)
        if model.get("chunk"):
            data = await asyncio.to_thread(_content, model)
            entry = await self._uploads.save(path, model["chunk"], data)
            return model_of(entry, path)
        if model["type"] == "notebook":
            notebook = nbformat.from_dict(model["content"])
            self.check_and_sign(notebook, path)
            data = (
                await asyncio.to_thread(nbformat.writes, notebook, nbformat.NO_CONVERT)
            ).encode()
        else:
            data = await asyncio.to_thread(_content, model)
        saved = model_of(await self._write(path, data, await self._expected(path, model)), path)
        saved["type"] = model["type"]
        if model["type"] == "notebook":
            self.validate_notebook_model({**model, "content": notebook}, validation_error=None)
            saved["message"] = model.get("message")
        self.emit(data={"action": "save", "path": path})
        return saved

    async def _expected(self, path: str, model: Model) -> int | None:
        """The time of the file that the client has seen; None if it does not say. Raises 409."""
        seen = model.get("expected")
        if not isinstance(seen, str):
            return None
        found = await self._found(path)
        if found is None or time_of(found.modified).isoformat() != _iso(seen):
            raise HTTPError(409, f"{path}: somebody else has written or removed it meanwhile")
        return found.modified

    async def _write(self, path: str, data: bytes, expected: int | None) -> Entry:
        async def write(f: HostFiles, root: str, below: str) -> Entry:
            async with f.write(root, below, expected=expected) as writing:
                for at in range(0, len(data), _PIECE_BYTES):
                    await writing.chunk(data[at : at + _PIECE_BYTES])
                return await writing.keep()

        return await self.drive.ask(write, path)

    async def delete_file(self, path: str) -> None:
        """Delete a file. Without the trash, a directory must be empty, as in Jupyter."""
        if self._trash:
            await self.drive.ask(lambda f, *place: f.trash(*place), path)
            return

        async def remove(f: HostFiles, root: str, below: str) -> None:
            try:
                await f.remove(root, below)
            except FileError as error:
                if error.code != files.NOT_EMPTY:
                    raise
                inside = {entry.name for entry in await f.list(root, below)}
                if inside != {CHECKPOINTS}:
                    raise
                await f.remove(root, below, recursive=True)

        await self.drive.ask(remove, path)

    async def rename_file(self, old_path: str, new_path: str) -> None:
        to = self.drive.place(new_path.strip("/"))
        await self.drive.ask(lambda f, *place: f.rename(*place, *to), old_path.strip("/"))

    async def copy(self, from_path: str, to_path: str | None = None) -> Model:
        """Copy a file on the host: its content does not come here."""
        path = from_path.strip("/")
        directory, name = posixpath.split(path)
        target = directory if to_path is None else to_path.strip("/")
        if await self.dir_exists(target):
            plain = copy_pat.sub(".", name)
            target = f"{target}/{await self.increment_filename(plain, target, insert='-Copy')}"
        target = target.strip("/")
        to = self.drive.place(target)
        entry = await self.drive.ask(lambda f, *place: f.copy(*place, *to), path)
        self.emit(data={"action": "copy", "path": target, "source_path": path})
        return model_of(entry, target)


class Drive:
    """A host's files: its name, and the places of paths."""

    def __init__(self, name: str, find: Any, roots: list[str]) -> None:
        """`find` returns, in the I/O thread, the HostFiles."""
        self.name = name
        self._find = find
        self._roots = roots
        labels = [posixpath.basename(root.rstrip("/")) or "files" for root in roots]
        labels = ["home" if label == "~" else label for label in labels]
        #: The names of the directories, where there are several.
        self.names = [
            label if labels.count(label) == 1 else f"{label} {number}"
            for number, label in enumerate(labels, 1)
        ]

    def is_top(self, path: str) -> bool:
        """Whether this is the directory of the operator's directories."""
        return len(self._roots) > 1 and not path.strip("/")

    def place(self, path: str) -> tuple[str, str]:
        """The root of a path, and the path below it. Raises HTTPError."""
        path = path.strip("/")
        try:
            below = "/".join(map(meant, path.split("/")))
        except (ValueError, UnicodeError):
            raise HTTPError(404, "there is no such name") from None
        if len(self._roots) == 1:
            return self._roots[0], below
        name, _, below = below.partition("/")
        if name not in self.names:
            raise HTTPError(404, f"there is no {name}" if name else "this cannot be changed")
        return self._roots[self.names.index(name)], below

    async def ask(self, use: Any, path: str) -> Any:
        """Use the files of the host with the place of a path. Raises HTTPError."""
        root, below = self.place(path)

        async def asked() -> Any:
            return await use(await self._find(), root, below)

        return await translated(io_thread().call(asked()))


async def translated(asked: Coroutine[Any, Any, T]) -> T:
    """What `asked` returns. A missing file is Jupyter's 404; other errors have the whole text."""
    try:
        return await asked
    except FileError as error:
        raise HTTPError(error.status, str(error), reason=_reason(error)) from None
    except RemoteProvisionerError as error:
        raise HTTPError(error.status, str(error)) from None


def _reason(error: FileError) -> str | None:
    return (
        None if error.code == files.NOT_FOUND else error.message.encode("ascii", "replace").decode()
    )


def _file(model: Model, data: bytes, wanted: str | None) -> Model:
    """The model of a file with its content."""
    text = None
    if wanted != "base64":
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if wanted == "text":
                raise HTTPError(400, f"{model['path']} is not UTF-8", reason="bad format") from None
    if text is not None:
        kind = model["mimetype"] or "text/plain"
        return {**model, "content": text, "format": "text", "mimetype": kind}
    encoded = base64.encodebytes(data).decode("ascii")
    kind = model["mimetype"] or "application/octet-stream"
    return {**model, "content": encoded, "format": "base64", "mimetype": kind}


def _content(model: Model) -> bytes:
    """The bytes in a model. Raises HTTPError."""
    content = model["content"]
    if not isinstance(content, str):
        raise HTTPError(400, "the content is not text")
    if model.get("format") != "base64":
        return content.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(content)
    except (binascii.Error, ValueError) as error:
        raise HTTPError(400, f"the content is not base64: {error}") from None


def _iso(text: str) -> str:
    """A time as clients have it from us, as `isoformat` writes it."""
    return text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text
