"""A command's standard streams. Some may be closed, or may not take output."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class OutputError(OSError):
    """The command's output cannot be written."""

    def __str__(self) -> str:
        return f"cannot write the output: {self.strerror}"


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None


def open_standard_streams() -> None:
    """Make stdout raise OutputError, and open /dev/null in place of each stream that is closed.

    For a closed stream, Python has None. The next file to be opened would get its number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(opened, opened == number)
            stream = open(opened, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    former = sys.stdout
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(former.fileno(), "w", closefd=False)),
        encoding=former.encoding,
        errors=former.errors,
        line_buffering=bool(former.line_buffering),
    )


def discard_output() -> None:
    """Discard the output that could not be written, and all further output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def why_failed(error: OSError) -> str:
    """Why the system refused something."""
    if isinstance(error, OutputError):
        discard_output()
        return str(error)
    why = error.strerror or str(error)
    return f"{error.filename}: {why}" if error.filename else why
