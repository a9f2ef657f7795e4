"""Virtual environments below the cache directory: made once, reused while what they hold fits."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .command import output

INSTALL_LIMIT = 600.0


def installed(distribution: str) -> str | None:
    """The version that the project's own environment holds."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def as_installed(*distributions: str) -> list[str]:
    """Requirements for the versions of the project's environment, so that all subjects share them.

    The peers would otherwise be measured with another jupyter_client or pyzmq than ours.
    """
    pairs = ((name, installed(name)) for name in distributions)
    return [f"{name}=={version}" if version else name for name, version in pairs]


def virtual_environment(directory: Path, python: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment that holds the requirements; made if it is not there."""
    interpreter = directory / "bin" / "python"
    stamp = directory / "holds.txt"
    holds = "\n".join([python, *requirements])
    if stamp.is_file() and stamp.read_text() == holds:
        return interpreter
    if directory.exists():
        shutil.rmtree(directory)
    print(f"making {directory} ...", flush=True)
    _output(python, "-m", "venv", str(directory))
    # pip compiles what it installs: hosts that may not write here need not do it at each start.
    _output(str(interpreter), "-m", "pip", "install", "--quiet", *requirements)
    stamp.write_text(holds)
    return interpreter


def version_in(interpreter: Path, distribution: str) -> str:
    """The version of a distribution in another environment."""
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    return _output(str(interpreter), "-c", code, distribution).strip()


def _output(*argv: str) -> str:
    # A path that is meant for the harness's own interpreter is not one for these.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return output(argv, environ=environ, limit=INSTALL_LIMIT)
