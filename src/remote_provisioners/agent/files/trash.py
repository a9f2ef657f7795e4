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
_NONE = "there is no trash for it ({}): delete it in a terminal"


class _UnusableTrash(Exception):
    """Nothing can be moved into this trash. The argument is the OSError."""


def move_to_trash(place: Place, path: str) -> None:
    """Move a place to the trash. `path`: its absolute path, for the note in the trash.

    Raises PlaceError, OSError.
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        data = os.path.expanduser("~/.local/share")
    try:
        _move(place, path, os.path.join(data, "Trash"))
    except _UnusableTrash as unusable:
        first = unusable.args[0]
    else:
        return
    try:
        _move(place, path, _own_trash(_top(place.directory, path)))
    except (_UnusableTrash, OSError) as error:
        why = error.args[0] if isinstance(error, _UnusableTrash) else error
        if first.errno != errno.EXDEV:
            why = first
        raise PlaceError(DENIED, _NONE.format(why.strerror)) from None


def _move(place: Place, path: str, trash: str) -> None:
    """Move a place by renaming it. Raises _UnusableTrash, OSError; then nothing has changed."""
    files, info = os.path.join(trash, "files"), os.path.join(trash, "info")
    try:
        for directory in (files, info):
            os.makedirs(directory, 0o700, exist_ok=True)
        name, note = _note(trash, place.name, path)
    except OSError as error:
        raise _UnusableTrash(error) from None
    try:
        os.rename(place.name, os.path.join(files, name), src_dir_fd=place.directory)
    except BaseException as error:
        os.unlink(note)
        if isinstance(error, OSError) and error.errno == errno.EXDEV:
            raise _UnusableTrash(error) from None
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
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
        except OSError:  # the disk is full
            os.unlink(note)
            raise
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
