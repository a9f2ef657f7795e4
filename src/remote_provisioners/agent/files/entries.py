"""Describes files and directories. Standard library only: this module travels to hosts."""

from __future__ import annotations

import os
import stat
from typing import Any, Iterator, List, Tuple

from ...protocol.files import DIRECTORY, FILE, LISTED, OTHER, Entry
from .places import Place, PlaceError, Roots


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


def listed(roots: Roots, root: str, path: str) -> Iterator[Tuple[List[Any], bool]]:
    """The rows of a directory's entries, in groups, and whether more follow. Raises OSError."""
    with roots.place(root, path) as place:
        descriptor = place.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        rows: List[Any] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                row = _row(roots, root, path, descriptor, entry)
                if row is not None:
                    rows.append(row)
                if len(rows) == LISTED:
                    yield rows, True
                    rows = []
        yield rows, False
    finally:
        os.close(descriptor)


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
