"""A small disk of this machine, which can be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path, size: str = "64k") -> Iterator[Path]:
    """A disk for `directory`. Gives the name of a file there, for `fill`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    directory.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield directory / "filling"
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(file: Path) -> None:
    """Leave no room on the disk of `file`."""
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))
