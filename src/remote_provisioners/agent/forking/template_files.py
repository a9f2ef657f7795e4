"""Whether the files that a template has imported have changed on the disk.

A part of the template's program (see PARTS in template_program.py). Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import os
import sys
from typing import Optional, Tuple

_SITE = ("site-packages", "dist-packages")


class Seen:
    """The files that this process has loaded, with their state at that time."""

    def __init__(self) -> None:
        sites = [path for path in sys.path if os.path.basename(path.rstrip("/")) in _SITE]
        user = getattr(sys.modules.get("site"), "USER_SITE", None)
        sites += [user] if user else []  # it may be created later
        paths = [sys.executable, os.path.realpath(sys.executable), *sites]
        self._states = {path: _state(path) for path in paths}

    def modules(self) -> None:
        """Add the files of all modules imported by now."""
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path not in self._states:
                self._states[path] = _state(path)

    def changed(self) -> str:
        """The path of a file that has changed; "" if none has."""
        for path, state in self._states.items():
            if _state(path) != state:
                return path
        return ""


def _state(path: str) -> Optional[Tuple[int, int, int]]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
