"""Kernelspec resource directories that travelled here: content-addressed, unpacked once.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import tempfile

_DIGEST = re.compile(r"[0-9a-f]{64}")


def path(directory: str, digest: str) -> str:
    """Where the directory of this digest is, "" for none."""
    return os.path.join(directory, digest) if _DIGEST.fullmatch(digest) else ""


def present(directory: str, digest: str) -> bool:
    """Whether it is here and complete: unpack() renames it last."""
    return bool(digest) and os.path.isdir(path(directory, digest))


def unpack(directory: str, digest: str, archive: str) -> None:
    """Unpack a base64-encoded tar of plain files and directories. Raises OSError, ValueError."""
    target = path(directory, digest)
    if not target:
        raise ValueError("bad digest {!r}".format(digest))
    import tarfile  # noqa: PLC0415 (an agent starts without)

    os.makedirs(directory, 0o700, exist_ok=True)
    unpacked = tempfile.mkdtemp(prefix="unpack-", dir=directory)
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
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
