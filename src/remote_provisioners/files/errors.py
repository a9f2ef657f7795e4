"""Errors of a host's files."""

from __future__ import annotations

from ..errors import RemoteProvisionerError
from ..protocol import files

_STATUSES = {
    files.NOT_FOUND: 404,
    files.DENIED: 403,
    files.OUTSIDE: 403,
    files.READ_ONLY: 403,
    files.EXISTS: 409,
    files.CHANGED: 409,
    files.NOT_EMPTY: 409,
    files.WRONG_KIND: 400,
    files.BAD_NAME: 400,
    files.NO_ROOM: 507,
}


class FileError(RemoteProvisionerError):
    """`code` is one of the reasons in protocol/files.py."""

    def __init__(self, message: str, *, host: str = "", code: str = files.FAILED) -> None:
        self.code = code
        self.status = _STATUSES.get(code, 500)
        super().__init__(message, host=host)

    def at(self, host: str) -> FileError:
        return FileError(self.message, host=host, code=self.code)
