"""The versions of a prefix's Python and of its packages, read from its files. Nothing is run.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, Optional, Tuple

_LIBRARY = re.compile(r"python(\d+\.\d+)t?")
_PATCH_LEVEL = re.compile(r'#define\s+PY_VERSION\s+"([^"]+)"')


def names_in(directory: str) -> List[str]:
    """The names in a directory, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def read(path: str, most: int = 1 << 16) -> str:
    """The beginning of a text file, "" if it cannot be read."""
    try:
        if not os.path.isfile(path):  # not a pipe, which would never end
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except OSError:
        return ""


def settings_of(venv: str) -> Dict[str, str]:
    """The settings in the pyvenv.cfg of a prefix, by their names in lower case."""
    lines = (line.partition("=") for line in read(os.path.join(venv, "pyvenv.cfg")).splitlines())
    return {name.strip().lower(): value.strip() for name, equals, value in lines if equals}


def minor_version(prefix: str, program: str) -> str:
    """Such as 3.12; "" if there is no Python in `prefix`."""
    real = os.path.basename(os.path.realpath(program))
    named = _LIBRARY.fullmatch(real)
    versions = [m.group(1) for m in map(_LIBRARY.fullmatch, names_in(prefix + "/lib")) if m]
    if named and (not versions or named.group(1) in versions):
        return named.group(1)
    return versions[-1] if versions else ""


def patch_version(prefix: str, minor: str) -> str:
    """The whole version of a prefix's own Python, `minor` if only that is known."""
    header = "{}/include/python{}/patchlevel.h".format(prefix, minor)
    found = _PATCH_LEVEL.search(read(header))
    return found.group(1).rstrip("+") if found else minor


def site_directories(prefix: str, minor: str) -> List[str]:
    """Where a prefix's own packages are."""
    library = "{}/lib/python{}".format(prefix, minor)
    return [
        library + "/site-packages",
        "{}/local/lib/python{}/dist-packages".format(prefix, minor),
        library + "/dist-packages",
        prefix + "/lib/python3/dist-packages",
    ]


def package_version(directories: List[str], package: str) -> Tuple[Optional[str], str]:
    """The version of a Python package and the directory it is in; None if it is in none."""
    wanted = package.lower().replace("-", "_")
    for directory in directories:
        for name in names_in(directory):
            distribution, dash, rest = name.partition("-")
            if not dash or distribution.lower().replace("-", "_") != wanted:
                continue
            for ending in (".dist-info", ".egg-info"):
                if rest.endswith(ending):
                    return rest[: -len(ending)].partition("-py")[0], directory
    return None, ""


def conda_records(prefix: str) -> Iterator[Tuple[str, str, str]]:
    """The name, version and build of each conda package in `prefix`, from the names of files."""
    for name in names_in(prefix + "/conda-meta"):
        parts = name[: -len(".json")].rsplit("-", 2)
        if name.endswith(".json") and len(parts) == 3:
            yield parts[0], parts[1], parts[2]
