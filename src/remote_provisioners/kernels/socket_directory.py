"""Where this process's sockets are: a directory that only we can enter."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path


class SocketDirectory:
    """A directory only we can enter, for this process's sockets; its path is short.

    It is locked as long as we live: what killed processes have left is removed.
    """

    def __init__(self) -> None:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        parent = runtime if runtime and len(runtime) < 40 and os.access(runtime, os.W_OK) else None
        draft = Path(tempfile.mkdtemp(prefix=".rp-", dir=parent))  # mode 0700
        self._lock = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = draft.with_name(draft.name[1:])
        draft.rename(self.path)
        for path in self.path.parent.glob("rp-????????"):
            with contextlib.suppress(OSError):  # another's, in use, or gone already
                _remove_abandoned(path)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(path: Path) -> None:
    """Remove the directory of a process that is no more. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inside = list(path.iterdir())
        if all(entry.is_socket() or entry.is_symlink() for entry in inside):  # else not ours
            for entry in inside:
                entry.unlink()
            path.rmdir()
    finally:
        os.close(descriptor)
