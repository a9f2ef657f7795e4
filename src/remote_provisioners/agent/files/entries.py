"""Describes files and directories. Standard library only: this module travels to hosts."""

from __future__ import annotations

import heapq
import os
import re
import stat
from typing import Any, Iterable, Iterator, List, Tuple

from ...protocol.files import DIRECTORY, FILE, LISTED, OTHER, Entry, FileRequest, Listed
from .places import Place, PlaceError, Roots

_NUMBERS = re.compile("([0-9]+)")


def kind_of(found: os.stat_result) -> str:
    if stat.S_ISREG(found.st_mode):
        return FILE
    return DIRECTORY if stat.S_ISDIR(found.st_mode) else OTHER


def entry_of(place: Place, name: str, link: str = "") -> Entry:
    """What is at a place. Raises FileNotFoundError."""
    found = place.found
    if found is None:
        raise FileNotFoundError(2, os.strerror(2))
    return Entry(
        name=name,
        kind=kind_of(found),
        size=found.st_size,
        modified=found.st_mtime_ns,
        mode=stat.S_IMODE(found.st_mode),
        writable=_writable(place, found),
        link=link,
    )


def _writable(place: Place, found: os.stat_result) -> bool:
    if stat.S_ISLNK(found.st_mode):
        return False
    try:
        return os.access(place.name, os.W_OK, dir_fd=place.directory, effective_ids=True)
    except (OSError, NotImplementedError):
        return False


def listed(roots: Roots, request: FileRequest) -> Iterator[Listed]:
    """The rows of a directory's entries, in groups. Raises OSError, PlaceError."""
    with roots.place(request.root, request.path) as place:
        descriptor = place.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        rows: List[Any] = []
        left_out = 0
        with os.scandir(descriptor) as found:
            entries: Iterable[Any] = found
            if request.most > 0:
                entries, left_out = _first(found, request)
            for entry in entries:
                row = _row(roots, request.root, request.path, descriptor, entry)
                if row is not None:
                    rows.append(row)
                if len(rows) == LISTED:
                    yield Listed(entries=rows, more=True)
                    rows = []
        yield Listed(entries=rows, left_out=left_out)
    finally:
        os.close(descriptor)


def _first(entries: Iterable[Any], request: FileRequest) -> Tuple[List[Any], int]:
    """The first entries, and the number of others. Only the first entries' properties are read.

    They are in the order in which people read names: directories first, 9 before 10.
    """
    text = request.containing.lower()
    wanted = [
        entry
        for entry in entries
        if text in entry.name.lower() and (request.hidden or not entry.name.startswith("."))
    ]
    first = heapq.nsmallest(request.most, wanted, key=_order)
    return first, len(wanted) - len(first)


def _order(entry: Any) -> Tuple[bool, List[Any]]:
    parts: List[Any] = _NUMBERS.split(entry.name.lower())
    parts[1::2] = map(int, parts[1::2])
    return not entry.is_dir(follow_symlinks=False), parts


def _row(roots: Roots, root: str, path: str, directory: int, entry: Any) -> Any:
    """One entry; None if it has just gone."""
    name = entry.name
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:  # it cannot be looked at, and is there
        return [name, OTHER, 0, 0, 0, False, ""]
    link = ""
    if stat.S_ISLNK(found.st_mode):
        link = _target(name, directory)
        try:
            with roots.place(root, "{}/{}".format(path, name)) as place:
                shown = entry_of(place, name, link)
        except (OSError, PlaceError):
            shown = Entry(name=name, kind=OTHER, modified=found.st_mtime_ns, link=link)
    else:
        shown = entry_of(Place(directory, name, found), name)
    return [getattr(shown, field) for field in Entry._fields]


def _target(name: str, directory: int) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return "?"
