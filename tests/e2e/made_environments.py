"""Environments in a directory, made of the interpreter and the packages of the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import ipykernel

PACKAGES = Path(sysconfig.get_path("purelib"))
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = ".".join(map(str, sys.version_info[:3]))
KERNEL = ipykernel.__version__


def link_packages(prefix: Path) -> None:
    """Give a prefix the packages of the tests."""
    site = prefix / "lib" / f"python{MINOR}" / "site-packages"
    for entry in PACKAGES.iterdir():
        if not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)


def make_venv(prefix: Path, kernel: bool = True) -> Path:
    """A venv, with ipykernel unless it is told otherwise."""
    argv = [sys.executable, "-m", "venv", "--without-pip", str(prefix)]
    subprocess.run(argv, check=True)
    if kernel:
        link_packages(prefix)
    return prefix


def make_conda(
    prefix: Path, kernel: bool = True, scripts: dict[str, str] | None = None, **variables: str
) -> Path:
    """A conda environment with a Python: its files are as conda installs them.

    `scripts`: of etc/conda/activate.d. `variables`: as `conda env config vars set` stores them.
    """
    meta, library = prefix / "conda-meta", prefix / "lib" / f"python{MINOR}"
    meta.mkdir(parents=True)
    (meta / "history").write_text("==> 2026-01-01 00:00:00 <==\n# cmd: conda create -n x python\n")
    records = {"python": VERSION, **({"ipykernel": KERNEL} if kernel else {})}
    for name, version in records.items():
        record = {"name": name, "version": version, "build": "h0_0", "build_number": 0}
        record |= {"channel": "conda-forge", "subdir": "linux-64", "files": [], "depends": []}
        (meta / f"{name}-{version}-h0_0.json").write_text(json.dumps(record))
    if variables:
        (meta / "state").write_text(json.dumps({"version": 1, "env_vars": variables}))
    for name, text in (scripts or {}).items():
        script = prefix / "etc" / "conda" / "activate.d" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text)
    base = Path(sys.base_prefix)
    (prefix / "bin").mkdir()
    shutil.copy(os.path.realpath(sys.executable), prefix / "bin" / f"python{MINOR}")
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(f"python{MINOR}")
    (library / "site-packages").mkdir(parents=True)
    for entry in (base / "lib" / f"python{MINOR}").iterdir():
        if entry.name != "site-packages":
            (library / entry.name).symlink_to(entry)
    if kernel:
        link_packages(prefix)
    return prefix


def make_kernelspec(
    data: Path, name: str, argv: list[str], files: dict[str, str] | None = None, **content: Any
) -> Path:
    """A kernelspec in a data directory of Jupyter."""
    directory = data / "kernels" / name
    directory.mkdir(parents=True)
    spec = {"argv": argv, "display_name": name, "language": "python", **content}
    (directory / "kernel.json").write_text(json.dumps(spec))
    for file, text in (files or {}).items():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(text)
    return directory
