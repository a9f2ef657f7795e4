"""The record of a kernel on its host's disk: the next agent needs it when this one is killed.

It contains the kernel's key: its mode is 0600, in the kernel's directory, whose mode is 0700. It
is replaced as a whole, so nobody reads half of one. Standard library only: this module travels to
hosts.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any, Dict

from ...protocol.agent_requests import OutputBounds
from ...protocol.structure import FieldError

NAME = "record.json"
_MOST_BYTES = 1024 * 1024

Record = Dict[str, Any]

#: The required fields and their types. Other fields are kept as they are.
_FIELDS: Dict[str, Any] = {
    "kernel_id": str,
    "owner": str,
    "pid": int,
    "start_time": int,
    "boot_id": str,
    "started": (int, float),
    "cwd": str,
    "connection": dict,
    "listening": bool,
    "reports_endpoints": bool,
    "gpus": list,
    "ports": list,
    "exit_code": (int, type(None)),
    "lease": (int, float),
    "ended_by": str,
    "output": dict,
}


#: Errors for which a record will never be readable. Others may pass (no descriptor is free).
_FOR_GOOD = (errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.EISDIR, errno.ENOTDIR)


class RecordError(Exception):
    """A record cannot be used; the message says which and why."""


def write(directory: str, record: Record) -> None:
    """Replace the record in the kernel's `directory`. Raises OSError and keeps the old one."""
    path = os.path.join(directory, NAME)
    temporary = path + ".new"
    try:
        file = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with open(file, "wb") as written:
            written.write(json.dumps(record).encode())
        os.rename(temporary, path)
    except OSError:
        remove(temporary)
        raise


def read(directory: str) -> Record:
    """The record in `directory`, checked. Raises RecordError, FileNotFoundError if there is none,
    OSError if it cannot be read at the moment.

    A record that other users could write or read is refused: it cannot be trusted.
    """
    record = read_any(directory)
    wrong = _wrong(record)
    if wrong:
        raise RecordError("{} has no usable {}".format(os.path.join(directory, NAME), wrong))
    return dict(record)


def read_any(directory: str) -> Any:
    """The record in `directory`, of any version, unchecked. Raises the same as :func:`read`."""
    path = os.path.join(directory, NAME)
    _private(directory, os.lstat(directory), stat.S_ISDIR)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _FOR_GOOD:
            raise
        raise RecordError("{}: {}".format(path, error.strerror)) from None
    with open(file, "rb") as opened:
        _private(path, os.fstat(file), stat.S_ISREG)
        content = opened.read(_MOST_BYTES + 1)
    try:
        return json.loads(content)
    except ValueError:
        raise RecordError("{} is not JSON".format(path)) from None


def output_bounds(record: Record) -> OutputBounds:
    """How much of the kernel's output is kept."""
    try:
        return OutputBounds.read(record["output"])
    except FieldError:
        return OutputBounds()


def remove(path: str) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(path)
    except OSError:
        pass


def _private(path: str, found: os.stat_result, of_kind: Any) -> None:
    if not of_kind(found.st_mode):
        raise RecordError("{} is not what an agent makes".format(path))
    if found.st_uid != os.getuid():
        text = "{} belongs to uid {}, not to us (uid {})"
        raise RecordError(text.format(path, found.st_uid, os.getuid()))
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise RecordError("{} is open to others (mode {:o})".format(path, mode))


def _wrong(record: Any) -> str:
    """The name of a field that cannot be used; "" if all can."""
    if not isinstance(record, dict):
        return "object"
    for name, kind in _FIELDS.items():
        value = record.get(name)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            return name
    if record["pid"] <= 1:
        return "pid"
    return ""
