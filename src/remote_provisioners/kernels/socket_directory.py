"""The directory of this process's sockets, which only this user can enter."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import forks

#: The whole path of a socket must fit into 107 bytes.
_LONGEST_PARENT = 60


class SocketDirectory:
    """A private directory with a short path for this process's sockets.

    This process locks it as long as it lives, and removes the unlocked directories of killed
    processes. Raises OSError if there is no place for it.
    """

    def __init__(self) -> None:
        self.path, self._lock = _make(None)
        forks.watch(self)
        for path in self.path.parent.glob("rp-????????"):
            with contextlib.suppress(OSError):  # another user's, in use, or already gone
                _remove_abandoned(path)

    def is_there(self) -> bool:
        """Whether it still exists. A logout removes XDG_RUNTIME_DIR."""
        return self.path.is_dir()

    def renew(self) -> None:
        """Create it again, elsewhere if necessary. Raises OSError."""
        former = self._lock
        self.path, self._lock = _make(self.path)
        os.close(former)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def after_fork(self) -> None:
        """Leave the directory to the parent. The next process removes a killed parent's."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _make(former: Path | None) -> tuple[Path, int]:
    """A new directory and the descriptor that locks it. `former`: the preferred path."""
    errors: list[OSError] = []
    if former is not None:
        with contextlib.suppress(OSError):
            return _make_in(former.parent, former)
    for parent in _parents():
        try:
            return _make_in(parent, None)
        except OSError as error:
            errors.append(error)
    raise (
        errors[0] if errors else FileNotFoundError("no temporary directory has a short enough path")
    )


def _make_in(parent: Path, path: Path | None) -> tuple[Path, int]:
    draft = Path(tempfile.mkdtemp(prefix=".rp-", dir=parent))  # mode 0700
    lock = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = path or draft.with_name(draft.name[1:])
        draft.rename(path)
    except BaseException:
        os.close(lock)
        with contextlib.suppress(OSError):
            draft.rmdir()
        raise
    return path, lock


def _parents() -> Iterator[Path]:
    """The possible places, the best one first."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR", "")]
    with contextlib.suppress(OSError):
        candidates.append(tempfile.gettempdir())
    for place in (*candidates, "/tmp", "/var/tmp", "/dev/shm", os.path.expanduser("~")):  # noqa: S108
        if os.path.isabs(place) and len(os.fsencode(place)) <= _LONGEST_PARENT:
            yield Path(place)


def _remove_abandoned(path: Path) -> None:
    """Remove the directory of a process of ours that has ended. Raises OSError.

    Anybody may create such a path, and may replace it at any time. So what is removed inside is
    named by the descriptor, never by the path.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_uid != os.geteuid():
            return
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inside = os.listdir(directory)
        if all(_is_ours(name, directory) for name in inside):
            for name in inside:
                os.unlink(name, dir_fd=directory)
            path.rmdir()
    finally:
        os.close(directory)


def _is_ours(name: str, directory: int) -> bool:
    mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    return stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)
