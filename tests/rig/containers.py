"""What the containers of Docker and Kubernetes have in common: this machine's own programs.

To fetch a distribution takes minutes, so an image has only links, and the programs are mounted.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

#: The directories of this machine that containers see.
_TREE = str(Path(__file__).resolve().parents[2])
SHARED = tuple(dict.fromkeys(["/usr", _TREE, sys.prefix, sys.base_prefix]))
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


def add_links(tar: tarfile.TarFile) -> None:
    """The links of a distribution, to what is mounted."""
    for name, target in _LINKS.items():
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)


def add_directories(tar: tarfile.TarFile, *names: str) -> None:
    for name in names:
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
        tar.addfile(directory)


def unmount_below(directory: Path) -> None:
    """Take away what an engine has mounted, and perhaps left when it ended."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((p for p in mounts if p.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)
