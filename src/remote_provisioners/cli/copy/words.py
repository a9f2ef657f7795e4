"""What the words of ``jupyter remote cp`` mean. Pure."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass

#: As scp does: a host ends at the first colon, unless a slash comes before.
_REMOTE = re.compile(r"(?P<host>(?:[^/:@\[]+@)?(?:\[[^\]/]+\]|[^/:\[]+)):(?P<path>.*)", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """A path; `host` is "" for this machine."""

    host: str
    path: str

    @property
    def directory(self) -> bool:
        """Whether the text shows that it is a directory."""
        return self.path.endswith("/") or posixpath.basename(self.path) in ("", ".", "..", "~")

    def absolute(self, home: str) -> str:
        """The absolute path; `home`: the home directory on that host."""
        if not self.host:
            return os.path.abspath(self.path)
        path = self.path
        if path == "~" or path.startswith("~/"):
            path = path[2:]
        return posixpath.normpath(posixpath.join(home, path))


def word(text: str) -> Word:
    found = _REMOTE.fullmatch(text)
    return Word(found["host"], found["path"]) if found else Word("", text)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
