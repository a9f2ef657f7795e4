"""Kernelspec resource directories that travelled here: content-addressed, unpacked once.

Those that no kernel uses are removed, the ones used longest ago first. Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Container

_DIGEST = re.compile(r"[0-9a-f]{64}")
#: How many directories are kept besides those of kernels.
KEPT = 8


def path(directory: str, digest: str) -> str:
    """Where the directory of this digest is, "" for none."""
    return os.path.join(directory, digest) if _DIGEST.fullmatch(digest) else ""


def present(directory: str, digest: str) -> bool:
    """Whether it is here and complete: unpack() renames it last. It counts as used now."""
    found = path(directory, digest)
    if not found or not os.path.isdir(found):
        return False
    # By no clock, which may jump: it is newer than all others now.
    newest = max(_used(entry) for entry in os.scandir(directory))
    os.utime(found, (newest + 1, newest + 1))
    return True


def tidy(directory: str, used: Container[str]) -> None:
    """Remove what nobody needs; `used`: the digests of kernels. Raises OSError."""
    unused = []
    for entry in os.scandir(directory):
        if _DIGEST.fullmatch(entry.name):
            if entry.name not in used:
                unused.append((_used(entry), entry.path))
        elif not entry.name.startswith(_unpacking()):  # a killed agent left it
            shutil.rmtree(entry.path, ignore_errors=True)
    for _, path in sorted(unused, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def _used(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # another thread has just unpacked or removed it
        return 0.0


def _unpacking() -> str:
    return "unpack-{}-".format(os.getpid())


def unpack(directory: str, digest: str, archive: str) -> None:
    """Unpack a base64-encoded tar of plain files and directories. Raises OSError, ValueError."""
    target = path(directory, digest)
    if not target:
        raise ValueError("bad digest {!r}".format(digest))
    import base64  # noqa: PLC0415 (an agent starts without)
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    os.makedirs(directory, 0o700, exist_ok=True)
    unpacked = tempfile.mkdtemp(prefix=_unpacking(), dir=directory)
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as tar:
            members = [m for m in tar.getmembers() if m.isfile() or m.isdir()]
            for member in members:
                if os.path.isabs(member.name) or ".." in member.name.split("/"):
                    raise ValueError("bad path {!r}".format(member.name))
                member.mode |= 0o700 if member.isdir() else 0o600
            if hasattr(tarfile, "data_filter"):
                tar.extractall(unpacked, members, filter="data")
            else:
                tar.extractall(unpacked, members)
        if not present(directory, digest):
            os.rename(unpacked, target)
        present(directory, digest)
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
