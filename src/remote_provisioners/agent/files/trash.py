"""Moves a file or a directory to the user's trash, where file managers look for it.

It follows the Trash specification of freedesktop.org. Standard library only: this module travels
to hosts.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from typing import Tuple
from urllib.parse import quote

from ...protocol.files import DENIED
from .places import Place, PlaceError

_INFO = "[Trash Info]\nPath={}\nDeletionDate={}\n"
_NONE = "its file system has no trash for you ({}): delete it in a terminal"


def move_to_trash(place: Place, path: str) -> None:
    """Move a place to the trash. `path`: its absolute path, for the note in the trash.

    Raises PlaceError, OSError.
    """
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    try:
        _move(place, path, os.path.join(data, "Trash"))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            _move(place, path, _own_trash(_top(place.directory, path)))
        except OSError as failed:
            raise PlaceError(DENIED, _NONE.format(failed.strerror)) from None


def _move(place: Place, path: str, trash: str) -> None:
    """Rename it. A trash on another file system raises EXDEV; then nothing has changed."""
    files, info = os.path.join(trash, "files"), os.path.join(trash, "info")
    for directory in (files, info):
        os.makedirs(directory, 0o700, exist_ok=True)
    name, note = _note(trash, place.name, path)
    try:
        os.rename(place.name, os.path.join(files, name), src_dir_fd=place.directory)
    except BaseException:
        os.unlink(note)
        raise


def _note(trash: str, name: str, path: str) -> Tuple[str, str]:
    """A free name in the trash, and the file that says where it comes from."""
    text = _INFO.format(quote(os.fsencode(path)), time.strftime("%Y-%m-%dT%H:%M:%S"))
    tried = name
    while True:
        kept = os.fsdecode(os.fsencode(tried)[:240])  # 255 bytes are a name's limit
        note = os.path.join(trash, "info", kept + ".trashinfo")
        try:
            if os.path.lexists(os.path.join(trash, "files", kept)):  # it has lost its note
                raise FileExistsError
            descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            tried = "{}.{}".format(os.fsdecode(os.fsencode(name)[:200]), secrets.token_hex(4))
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return kept, note


def _own_trash(top: str) -> str:
    """The user's trash in the highest directory of a file system. Raises OSError."""
    trash = os.path.join(top, ".Trash-{}".format(os.getuid()))
    try:
        os.mkdir(trash, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(trash)  # another user may have made it
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "{} is not yours".format(trash))
    return trash


def _top(opened: int, path: str) -> str:
    """The highest directory of the file system of `path`. `opened`: the directory of `path`."""
    directory, device = os.path.realpath(os.path.dirname(path)), os.fstat(opened).st_dev
    while directory != "/" and os.stat(os.path.dirname(directory)).st_dev == device:
        directory = os.path.dirname(directory)
    return directory
