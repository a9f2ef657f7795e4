"""Replaces a file's content as a whole: a file beside it is written, then renamed.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from typing import Optional

from ...protocol.files import CHANGED, EXISTS, FAILED, READ_ONLY, WRONG_KIND, FileRequest
from .places import Place, PlaceError

#: How long an interrupted writer of the same file may take to end.
_LOCK_SECONDS = 5.0
_PREFIX, _SUFFIX = ".rp-", ".part"


class NewContent:
    """The content of a file while it arrives. Nobody sees it before `keep`."""

    def __init__(self, place: Place, request: FileRequest) -> None:
        """Raises PlaceError, OSError."""
        self._place, self._request = place, request
        #: Whether an interrupted writer continues later.
        self._resumes = bool(request.resume)
        #: Whether the file itself is written, because its directory may not be changed.
        self._in_place = False
        self._check()
        name = os.fsencode(place.name) + b"\0" + request.resume.encode()
        token = hashlib.sha256(name).hexdigest()[:16] if self._resumes else secrets.token_hex(8)
        self._name = _PREFIX + token + _SUFFIX
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        flags |= os.O_APPEND if self._resumes else os.O_EXCL
        try:
            self._file = os.open(self._name, flags, 0o600, dir_fd=place.directory)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM) or place.found is None:
                raise
            self._in_place = True
            self._file = place.open(os.O_WRONLY)
        if self._resumes and not self._in_place:
            try:
                _lock(self._file)
            except BaseException:
                os.close(self._file)
                raise
        #: Bytes that an earlier writer of the same content has left.
        self.size = 0 if self._in_place else os.fstat(self._file).st_size
        self._begun = False

    def _check(self) -> None:
        """Raises PlaceError when the file may not be replaced now."""
        now, request = self._place.look(), self._request
        if now is None:
            if request.expected is not None:
                raise PlaceError(CHANGED, "somebody else has removed it")
            return
        if request.create:
            raise PlaceError(EXISTS, "it exists already")
        if not stat.S_ISREG(now.st_mode):
            raise PlaceError(WRONG_KIND, "it is not a file")
        if request.expected is not None and now.st_mtime_ns != request.expected:
            raise PlaceError(CHANGED, "somebody else has written it meanwhile")
        place = self._place
        # A rename would replace a file that its owner has protected.
        if not os.access(place.name, os.W_OK, dir_fd=place.directory, effective_ids=True):
            raise PlaceError(READ_ONLY, "it may not be written")

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        if self._in_place and not self._begun:
            self._begun = True
            os.ftruncate(self._file, 0)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def keep(self) -> os.stat_result:
        """All has arrived: replace the file. Raises PlaceError, OSError."""
        place, request = self._place, self._request
        if self._in_place:
            if not self._begun:
                os.ftruncate(self._file, 0)
        else:
            self._check()
            os.fchmod(self._file, self._mode(place.look()))
        if request.modified is not None:
            os.utime(self._file, ns=(request.modified, request.modified))
        os.fsync(self._file)
        if not self._in_place:
            if request.create:  # nobody may create it between the look and the rename
                os.close(place.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            directory = place.directory
            os.rename(self._name, place.name, src_dir_fd=directory, dst_dir_fd=directory)
            self._name = ""
        return os.fstat(self._file)

    def _mode(self, before: Optional[os.stat_result]) -> int:
        if before is None:
            given = self._request.mode
            return (0o666 if given is None else given & 0o777) & ~_umask()
        if before.st_gid != os.fstat(self._file).st_gid:
            try:
                os.chown(self._file, -1, before.st_gid)
            except OSError:  # not a member of that group any more
                pass
        return stat.S_IMODE(before.st_mode) & 0o777

    def close(self) -> None:
        """Remove what is not kept, unless it will be continued."""
        os.close(self._file)
        if self._name and not self._in_place and not self._resumes:
            try:
                os.unlink(self._name, dir_fd=self._place.directory)
            except OSError:
                pass


def _lock(descriptor: int) -> None:
    """Let nobody else write. An interrupted writer may have to notice that first.

    Raises PlaceError.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise PlaceError(FAILED, "it is being copied already") from None
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return


def _umask() -> int:
    """The mask for new files. Reading it by setting it would affect the other threads."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022
