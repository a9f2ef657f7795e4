"""Where a path leads, below the directories that a server may use.

Each component is opened by itself, relative to the one before, and never through a link: a link is
read, and its target is followed in the same way. So nothing that somebody changes meanwhile leads
out of these directories. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import Deque, Iterator, List, Optional, Sequence, Tuple

from ...protocol.files import BAD_NAME, OUTSIDE

_MOST_LINKS = 40
#: O_PATH: a directory that may not be read can be passed through.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class PlaceError(Exception):
    """A path that a server may not use; `code` is one of those in protocol/files.py."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Place:
    """A name in a directory that is open. The name "." is the directory itself."""

    def __init__(self, directory: int, name: str, found: Optional[os.stat_result]) -> None:
        self.directory = directory
        self.name = name
        #: None: nothing is there.
        self.found = found

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.directory)

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Raises OSError."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.directory)

    def look(self) -> Optional[os.stat_result]:
        """What is there now. Raises OSError."""
        try:
            return os.lstat(self.name, dir_fd=self.directory) if self.name != "." else self.found
        except FileNotFoundError:
            return None


class Roots:
    """The directories that a server may use."""

    def __init__(self, texts: Sequence[str]) -> None:
        home = os.path.expanduser("~")
        self._roots = {
            text: os.path.abspath(os.path.join(home, os.path.expanduser(text))) for text in texts
        }

    def place(self, root: str, path: str, follow: bool = True) -> Place:
        """The place of a path. Raises PlaceError, OSError."""
        if root not in self._roots:
            raise PlaceError(OUTSIDE, "this server may not use the directory {}".format(root))
        parts = list(_parts(path))
        if ".." in parts or "\0" in path:
            raise PlaceError(BAD_NAME, "no path: {!r}".format(path))
        walk = _Walk(self, self._roots[root], parts, follow)
        try:
            return walk.end()
        finally:
            walk.close()

    def text(self, root: str, path: str) -> str:
        """The absolute path, with its links. `root` is one of the roots."""
        return os.path.join(self._roots[root], *_parts(path))

    def containing(self, path: str) -> Optional[Tuple[str, List[str]]]:
        """The root that contains an absolute path, and the rest of the path."""
        for root in self._roots.values():
            for prefix in {root, os.path.realpath(root)}:
                if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
                    return root, list(_parts(path[len(prefix) :]))
        return None


class _Walk:
    """The way to a place. The directories that are open: from the root to the present one."""

    def __init__(self, roots: Roots, root: str, parts: List[str], follow: bool) -> None:
        self._roots = roots
        self._todo: Deque[str] = deque(parts)
        self._follow = follow
        self._links = 0
        self._open: List[int] = []
        self._names: List[str] = []
        self._enter(root)

    def _enter(self, root: str) -> None:
        self.close()
        self._base, self._names = root, []
        self._open = [os.open(root, _PASS)]

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def end(self) -> Place:
        while self._todo:
            name = self._todo.popleft()
            if name == "..":
                self._up()
                continue
            try:
                found = os.lstat(name, dir_fd=self._open[-1])
            except FileNotFoundError:
                if self._todo:
                    raise
                return Place(self._open.pop(), name, None)
            if stat.S_ISLNK(found.st_mode) and (self._todo or self._follow):
                self._take_link(name)
            elif self._todo:
                flags = _PASS | os.O_NOFOLLOW
                self._open.append(os.open(name, flags, dir_fd=self._open[-1]))
                self._names.append(name)
            else:
                return Place(self._open.pop(), name, found)
        return Place(self._open[-1], ".", os.fstat(self._open.pop()))

    def _up(self) -> None:
        """A link says `..`."""
        if self._names:
            self._names.pop()
            os.close(self._open.pop())
        else:
            above = os.path.dirname(os.path.realpath(self._base))
            rest, self._todo = self._todo, deque()
            self._go(os.path.normpath("/".join([above, *rest])))  # it may lead back

    def _take_link(self, name: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(name, dir_fd=self._open[-1])
        if target.startswith("/"):
            self._go(target)
        else:
            self._todo.extendleft(reversed(list(_parts(target))))

    def _go(self, path: str) -> None:
        """Go on at an absolute path, which a link has given."""
        parts = list(_parts(path))
        inside = None if ".." in parts else self._roots.containing("/" + "/".join(parts))
        if inside is None:
            text = "it leads out of the directories that this server may use, to {}"
            raise PlaceError(OUTSIDE, text.format(path))
        root, rest = inside
        self._enter(root)
        self._todo.extendleft(reversed(rest))


def _parts(path: str) -> Iterator[str]:
    return (part for part in path.split("/") if part not in ("", "."))
