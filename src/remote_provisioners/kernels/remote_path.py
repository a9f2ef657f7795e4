"""Paths of a kernel's file system. Pure."""

from __future__ import annotations

import posixpath


def absolute(path: str, cwd: str, home: str) -> str:
    """`path` made absolute, for a process with this directory and this home."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return posixpath.normpath(posixpath.join(cwd, path))
