"""Models of Jupyter's contents API for entries of hosts. Pure."""

from __future__ import annotations

import mimetypes
import posixpath
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from ...protocol.files import DIRECTORY, FILE, Entry
from .names import shown

Model = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PREFIX, _SUFFIX = ".rp-", ".part"


def time_of(nanoseconds: int) -> datetime:
    """To the microsecond: a float would lose that."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def model_of(entry: Entry, path: str) -> Model:
    """A model without content. `path`: as pages have it."""
    name = posixpath.basename(path)
    kind = "directory" if entry.kind == DIRECTORY else "file"
    if kind == "file" and name.endswith(".ipynb"):
        kind = "notebook"
    modified = time_of(entry.modified)
    return {
        "name": name,
        "path": path,
        "type": kind,
        "last_modified": modified,
        "created": modified,
        "content": None,
        "format": None,
        "mimetype": mimetypes.guess_type(name)[0] if kind == "file" else None,
        "size": entry.size if entry.kind == FILE else None,
        "writable": entry.writable,
        "hash": None,
        "hash_algorithm": None,
    }


def models_of(entries: Iterable[Entry], directory: str, hidden: bool) -> list[Model]:
    """The models of a directory's entries. `hidden`: with those whose names begin with a dot.

    What is no file and no directory is left out, as Jupyter does; so are incomplete copies.
    """
    prefix = f"{directory}/" if directory else ""
    return [
        model_of(entry, prefix + shown(entry.name))
        for entry in entries
        if entry.kind in (FILE, DIRECTORY)
        and (hidden or not entry.name.startswith("."))
        and not (entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX))
    ]
