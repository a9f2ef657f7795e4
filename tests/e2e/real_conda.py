"""A conda environment that rattler, the installer of pixi, or conda installs from this disk."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from .made_environments import KERNEL, MINOR, PACKAGES, VERSION

#: In a process of its own, as its threads stay.
_INSTALL = """
import asyncio, pathlib, sys
from rattler import Channel, install, solve
from rattler.index import index_fs

async def main(channel, prefix, cache):
    await index_fs(channel)
    url = pathlib.Path(channel).as_uri()
    records = await solve([Channel(url)], ["python", "ipykernel", "libs"])
    await install(records, prefix, cache_dir=cache, show_progress=False)

asyncio.run(main(*sys.argv[1:]))
"""
_LEFT_OUT = {"site-packages", "__pycache__", "test", "tests", "idlelib", "ensurepip"}
ACTIVATE = 'export LIBS_OF="$CONDA_PREFIX/lib"\n'


def _package(
    channel: Path, subdir: str, name: str, version: str, content: Any, **index: Any
) -> None:
    """Write a package: `content` is the text of each file, or a path to copy or to link to."""
    (channel / subdir).mkdir(parents=True, exist_ok=True)
    about = {"name": name, "version": version, "build": "h0_0", "build_number": 0, "depends": []}
    about |= {"subdir": subdir, "timestamp": 1767225600000, **index}
    files = "".join(f"{path}\n" for path in content)
    info = {"info/index.json": json.dumps(about), "info/files": files}
    with tarfile.open(channel / subdir / f"{name}-{version}-h0_0.tar.bz2", "w:bz2") as archive:
        for path, what in {**info, **content}.items():
            member = tarfile.TarInfo(path)
            if isinstance(what, Path) and path.endswith(f"/python{MINOR}") and what.is_file():
                member.mode, member.size = 0o755, what.stat().st_size
                archive.addfile(member, io.BytesIO(what.read_bytes()))
            elif isinstance(what, Path):
                member.type, member.linkname = tarfile.SYMTYPE, str(what)
                archive.addfile(member)
            else:
                member.size = len(what.encode())
                archive.addfile(member, io.BytesIO(what.encode()))


def install_conda(prefix: Path, work: Path, conda: str = "") -> Path:
    """Install Python, ipykernel and a package with an activation script into `prefix`.

    `conda`: the program that does it, instead of rattler.
    """
    channel = work / "channel"
    base = Path(sys.base_prefix, "lib", f"python{MINOR}")
    # conda itself links files only.
    standard = {
        f"lib/python{MINOR}/{path.relative_to(base)}": path
        for path in base.rglob("*")
        if path.is_file() and not _LEFT_OUT.intersection(path.relative_to(base).parts)
    }
    programs = {
        f"bin/python{MINOR}": Path(os.path.realpath(sys.executable)),
        "bin/python": Path(f"python{MINOR}"),
        "bin/python3": Path(f"python{MINOR}"),
    }
    _package(channel, "linux-64", "python", VERSION, {**programs, **standard})
    about = f"Name: ipykernel\nVersion: {KERNEL}\n"
    kernel = {
        f"site-packages/ipykernel-{KERNEL}.dist-info/METADATA": about,
        "site-packages/ipykernel.pth": f"{PACKAGES}\n",
    }
    _package(channel, "noarch", "ipykernel", KERNEL, kernel, noarch="python", depends=["python"])
    scripts = {
        "etc/conda/activate.d/libs.sh": ACTIVATE,
        "etc/conda/env_vars.d/libs.json": json.dumps({"LIBS_VERSION": "1"}),
    }
    _package(channel, "linux-64", "libs", "1.0", scripts)
    argv = [sys.executable, "-c", _INSTALL, str(channel), str(prefix), str(work / "cache")]
    if conda:
        packages = [path.as_uri() for path in sorted(channel.rglob("*.tar.bz2"))]
        argv = [conda, "create", "--yes", "--quiet", "--offline", "--prefix", str(prefix)]
        argv += packages
    own = {"HOME": str(work), "CONDA_PKGS_DIRS": str(work / "cache")}
    subprocess.run(argv, check=True, env={**os.environ, **own})
    return prefix
