"""Which directories a host has for itself, and what of this machine shows through them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

PRIVATE = ("/tmp", "/var/tmp", "/run", "/var/log", "/dev/shm")


def view(*own: Path) -> tuple[list[str], list[str]]:
    """Return the directories to hide, and the paths to keep visible below those.

    Kept are ``own`` and all that a host needs to run this project: the interpreter, its virtual
    environment and the checkout.  They may lie below ``/tmp``, which is hidden, or below root's
    home, which other users must not enter.  Such a home is replaced by one that they may enter,
    with all the same things in it.
    """
    private = [path.resolve() for path in map(Path, PRIVATE) if path.is_dir()]
    checkout = Path(__file__).resolve().parents[2]
    needed = [*own, checkout, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    closed = _closed(path for path in needed if not _below(path, private))
    kept = {path for path in needed if _below(path, private)}
    for path in {path for directory in closed for path in directory.iterdir()} - closed:
        if not path.is_symlink() and (path.is_dir() or path.is_file()):
            kept.add(path)
    hidden = private + [path for path in closed if not _below(path, closed)]
    return _sorted(hidden), _sorted(path for path in kept if not _below(path, kept))


def _closed(paths: Iterable[Path]) -> set[Path]:
    """The directories above the paths that not everybody may enter."""
    above = {parent for path in paths for parent in path.parents}
    return {directory for directory in above if not directory.stat().st_mode & 0o001}


def _below(path: Path, directories: Iterable[Path]) -> bool:
    return any(directory in path.parents for directory in directories)


def _sorted(paths: Iterable[Path]) -> list[str]:
    return sorted(map(str, paths))
