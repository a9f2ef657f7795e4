"""Finds the calls on an event loop that can wait for a file system or for a program's file.

How late a loop is depends on all that this machine does. Which calls it makes does not.
"""

from __future__ import annotations

import builtins
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

#: What the system keeps in memory.
_MEMORY = ("/proc", "/sys", "/dev")
_CALLS: dict[Any, tuple[str, ...]] = {
    os: (
        *("open", "stat", "lstat", "listdir", "scandir", "mkdir", "rmdir", "rename", "replace"),
        *("unlink", "remove", "symlink", "readlink", "chmod", "utime", "truncate", "statvfs"),
        *("access", "chdir", "fsync"),
    ),
    builtins: ("open",),
    fcntl: ("flock",),
    subprocess: ("Popen",),
}
#: Python's own: its modules, and the lines of a traceback.
_OF_PYTHON = ("importlib", "linecache")


def watch(
    on_loop: Callable[[], bool],
    note: Callable[[str], None],
    patch: Callable[[Any, str, Any], None] = setattr,
) -> None:
    """Call `note` with each such call while `on_loop`; with its path, and where it is made."""

    def watched(place: Any, name: str) -> None:
        real = getattr(place, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            what = args[0] if args else kwargs
            what = os.fsdecode(what) if isinstance(what, (bytes, os.PathLike)) else what
            if not isinstance(what, int) and not _in_memory(what) and on_loop():
                places = _places(sys._getframe(1))
                if places is not None:
                    note(f"{name} {what} in {' < '.join(places)}")
            return real(*args, **kwargs)

        patch(place, name, called)

    for place, names in _CALLS.items():
        for name in names:
            watched(place, name)


def _in_memory(what: object) -> bool:
    return any(str(what) == place or str(what).startswith(place + "/") for place in _MEMORY)


def _places(frame: FrameType | None) -> list[str] | None:
    """The innermost lines of ours; None for calls that Python itself makes."""
    places: list[str] = []
    while frame is not None and len(places) < 3:
        file = frame.f_code.co_filename
        if any(each in file for each in _OF_PYTHON):
            return None
        if "/remote_provisioners/" in file:
            places.append(f"{file.rpartition('/')[2]}:{frame.f_lineno}")
        frame = frame.f_back
    return places
