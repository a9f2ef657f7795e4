"""Records of kernels for the next server. Files only, no network.

Each server process has a directory::

    <jupyter data directory>/remote-provisioners/<token>/lock          locked while it lives
                                                        /<hash>.json   a kernel, 0600

A kernel's record is written before its host gets the start request. It is updated when the kernel
runs, when the kernel or its sessions change, and when a stop or restart begins. It is removed when
the kernel is shut down. A process that gets the lock of a directory adopts its records: it renames
each into its own directory, so that only one of two processes gets it. A record contains the
session key.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import shlex
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir

from ... import forks
from .record import BadRecord, Record

_NEW, _DRAFT, _RECORD = ".new", ".draft", ".json"
#: The name of a server's directory. Other files of this package are beside these directories.
_TOKEN = re.compile(r"[0-9a-f]{16}")
#: How soon a record that could not be written is tried again.
_AGAIN_SECONDS = 5.0
#: How long to wait while another process looks for records.
_OTHERS_SECONDS = 5.0
#: More than any record, so that a foreign file is not read completely.
_MOST_BYTES = 1024 * 1024


class Records:
    """The records of this process. The first one creates their directory.

    Any thread may write them.
    """

    def __init__(self, parent: Path, log: logging.Logger) -> None:
        self.parent = parent
        self._log = log
        #: Records that `adopt` left, because they belong to other servers that have ended.
        self.of_others: list[Record] = []
        self._directory: Path | None = None
        self._lock: int | None = None
        self._written: dict[str, Record] = {}
        #: Those whose file is old, or is missing: the disk was full.
        self._unwritten: dict[str, Record] = {}
        self._again: threading.Timer | None = None
        self._syncing: ThreadPoolExecutor | None = None
        self._writing = threading.Lock()
        forks.watch(self)

    # -- ours -------------------------------------------------------------------------------

    def get(self, kernel_id: str) -> Record | None:
        return self._unwritten.get(kernel_id) or self._written.get(kernel_id)

    def __iter__(self) -> Any:
        return iter(list({**self._written, **self._unwritten}.values()))

    def write(self, record: Record) -> None:
        """Write the record of a kernel to disk. Raises OSError, BadRecord; then tries it again."""
        with self._writing:
            try:
                self._write(record)
            except (OSError, BadRecord):
                self._unwritten[record.kernel_id] = record
                self._write_again_later()
                raise
            self._unwritten.pop(record.kernel_id, None)

    def _write_again_later(self) -> None:
        if self._again is None:
            self._again = threading.Timer(_AGAIN_SECONDS, self._write_again)
            self._again.daemon = True
            self._again.start()

    def _write_again(self) -> None:
        with self._writing:
            if self._again is None:
                return  # closed in the meantime
            self._again = None
            for kernel_id, record in list(self._unwritten.items()):
                try:
                    self._write(record)
                except (OSError, BadRecord):
                    self._write_again_later()
                    return
                del self._unwritten[kernel_id]
                self._log.info("kernel %s: its record is written now", kernel_id)

    def _write(self, record: Record) -> None:
        if self._written.get(record.kernel_id) == record:
            return
        try:
            path = self._own() / (record.file + _RECORD)
            _replace(path, record)
        except FileNotFoundError:  # somebody has removed our directory
            self._abandon()
            for known in self._written.values():
                _replace(self._own() / (known.file + _RECORD), known)
            path = self._own() / (record.file + _RECORD)
            _replace(path, record)
        self._written[record.kernel_id] = record
        # This is enough if the process is killed. A power failure also needs a sync, which takes
        # the disk some time.
        self._syncing = self._syncing or ThreadPoolExecutor(1, "remote-provisioners-records")
        try:
            self._syncing.submit(_sync, path)
        except RuntimeError:  # this process is ending
            _sync(path)

    def remove(self, kernel_id: str) -> None:
        """Remove the record of a kernel that has ended."""
        with self._writing:
            unwritten = self._unwritten.pop(kernel_id, None)
            record = self._written.pop(kernel_id, unwritten)
            if record is not None and self._directory is not None:
                with contextlib.suppress(OSError):
                    os.unlink(self._directory / (record.file + _RECORD))

    def close(self) -> None:
        """Release the records for the next server. Remove the directory if it has none."""
        if self._syncing is not None:
            self._syncing.shutdown()
            self._syncing = None
        with self._writing:
            if self._again is not None:
                self._again.cancel()
                self._again = None
            if self._directory is not None:
                _remove_if_empty(self._directory)
            self._abandon()
            self._written.clear()
            self._unwritten.clear()

    def after_fork(self) -> None:
        """Leave the records to the parent. A child must not hold their lock or end its kernels."""
        self._writing, self._again, self._syncing = threading.Lock(), None, None
        self._abandon()
        self._written.clear()
        self._unwritten.clear()

    def _abandon(self) -> None:
        """Leave our directory."""
        if self._lock is not None:
            os.close(self._lock)
        self._directory = self._lock = None

    def _own(self) -> Path:
        """Our directory. It gets its final name when it is locked. Raises OSError, BadRecord."""
        if self._directory is None:
            self.parent.mkdir(0o700, parents=True, exist_ok=True)
            _check(self.parent, os.lstat(self.parent), stat.S_ISDIR)
            draft = self.parent / (secrets.token_hex(8) + _NEW)
            draft.mkdir(0o700)
            try:
                lock = os.open(draft / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError:
                draft.rmdir()  # the disk is full: it is tried again and again
                raise
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(draft, draft.with_suffix(""))
            self._directory, self._lock = draft.with_suffix(""), lock
        return self._directory

    # -- records of servers that have ended ---------------------------------------------------

    def adopt(self, root: str, server: str = "") -> list[Record]:
        """Adopt the records of ended servers with this directory or this name.

        Unusable records stay where they are, and the log says why. Records of other ended servers
        stay too: see `of_others`.
        """
        self.of_others = []
        try:
            names = sorted(os.listdir(self.parent))
            _check(self.parent, os.lstat(self.parent), stat.S_ISDIR)
        except FileNotFoundError:
            return []
        except (OSError, BadRecord) as error:
            self._refused(self.parent, error)
            return []
        adopted: list[Record] = []
        with _one_at_a_time(self.parent):
            for path in [self.parent / name for name in names if _TOKEN.fullmatch(name)]:
                try:
                    adopted += self._adopt_directory(path, root, server)
                except FileNotFoundError:
                    continue  # its server has just ended and removed it
                except (OSError, BadRecord) as error:
                    self._refused(path, error)
        return adopted

    def _refused(self, path: Path, error: Exception) -> None:
        why = error.strerror if isinstance(error, OSError) else str(error)
        self._log.error("record of kernels %s: not used: %s", path, why)

    def _adopt_directory(self, directory: Path, root: str, server: str) -> list[Record]:
        if directory == self._directory:
            return []
        _check(directory, os.lstat(directory), stat.S_ISDIR)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT
        lock = os.open(directory / "lock", flags, 0o600)
        adopted = []
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return []  # its server is alive
            for path in _files(directory):
                if path.suffix == _DRAFT:
                    path.unlink()
                if path.suffix != _RECORD:
                    continue
                try:
                    record = Record.parse(_read(path))
                    if not record.belongs_to(root, server):
                        self.of_others.append(record)
                        continue
                    os.rename(path, self._own() / (record.file + _RECORD))
                    self._written[record.kernel_id] = record
                    adopted.append(record)
                except FileNotFoundError:
                    continue  # another server was faster
                except (OSError, BadRecord) as error:
                    self._refused(path, error)
            _remove_if_empty(directory)
        finally:
            os.close(lock)
        return adopted


def records_parent() -> Path:
    """The directory of the records of this user's servers."""
    return Path(jupyter_data_dir()) / "remote-provisioners"


def all_records(parent: Path) -> list[tuple[Path, Record]]:
    """All readable records, of running and of ended servers."""
    found = []
    for path in sorted(parent.glob(f"*/*{_RECORD}")):
        with contextlib.suppress(OSError, BadRecord):
            found.append((path, Record.parse(_read(path))))
    return found


def note_end(parent: Path, kernel_id: str, why: str) -> None:
    """Note in a kernel's record that it was ended. A running server notices this by itself."""
    for path, record in all_records(parent):
        if record.kernel_id == kernel_id:
            with _one_at_a_time(parent), contextlib.suppress(OSError):
                _note_end(path, replace(record, ended=why, doing=""))


def _note_end(path: Path, record: Record) -> None:
    """Raises OSError, also when a server has the record."""
    with open(path.parent / "lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            _replace(path, record)


@contextlib.contextmanager
def _one_at_a_time(parent: Path) -> Iterator[None]:
    """Only one process at a time takes the locks of other processes' directories.

    Another one would take a directory that is only looked at for that of a living server.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # some file systems do not lock directories
            directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            _lock_within(directory, _OTHERS_SECONDS)
        yield


def _lock_within(descriptor: int, seconds: float) -> None:
    """Raises OSError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        else:
            return


def _replace(path: Path, record: Record) -> None:
    draft = path.with_suffix(_DRAFT)
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(draft, flags, 0o600), "wb") as file:
        file.write(record.encode())
    os.rename(draft, path)


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []  # another server has emptied and removed it


def _read(path: Path) -> bytes:
    """Read a file that only this user can read and write. Raises OSError, BadRecord."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        _check(path, os.fstat(file.fileno()), stat.S_ISREG)
        return file.read(_MOST_BYTES)


def _check(path: Path, found: os.stat_result, kind: Any) -> None:
    if not kind(found.st_mode):
        raise BadRecord("it has the wrong file type")
    if found.st_uid != os.getuid():
        raise BadRecord(f"it belongs to uid {found.st_uid}, not to us (uid {os.getuid()})")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise BadRecord(
            f"it is open to others (mode {mode:04o}), and so are the keys of its kernels. "
            f"To trust it anyway: chmod go= {shlex.quote(str(path))}"
        )


def _remove_if_empty(directory: Path) -> None:
    """Remove a directory that we have locked, if it has no records."""
    with contextlib.suppress(OSError):
        if {path.name for path in directory.iterdir()} <= {"lock"}:
            os.unlink(directory / "lock")
            os.rmdir(directory)


def _sync(path: Path) -> None:
    for synced in (path, path.parent):
        with contextlib.suppress(OSError):  # it is already removed or cannot be synced
            descriptor = os.open(synced, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
