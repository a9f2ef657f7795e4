"""A file in a directory that all users share. All users can read the file.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os

#: How the name of a draft ends.
DRAFT = ".new"


def put(path: str, text: str) -> None:
    """Replace the file by this text, in one step. Raises OSError.

    The draft is in the same directory, because /tmp may be a file system of its own.
    """
    draft = "{}.{}{}".format(path, os.urandom(8).hex(), DRAFT)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            os.fchmod(descriptor, 0o644)
        os.rename(draft, path)
    except BaseException:
        remove(draft)
        raise


def keep(path: str) -> None:
    """Make the file young, if there is one: hosts remove old files from /tmp."""
    try:
        os.utime(path)
    except OSError:
        pass  # it is not there, or not ours


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it is not there, or not ours
