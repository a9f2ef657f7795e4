"""Where to look: the directories that may be prefixes. Nothing is run.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
from typing import Iterator, List, Mapping, Sequence, Tuple

from .packages import names_in, read

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_CONDA_DIRECTORIES = (
    "anaconda3",
    "conda",
    "mambaforge",
    "micromamba",
    "miniconda3",
    "miniforge3",
)
#: Directories of venvs, below the home directory.
_VENV_DIRECTORIES = (
    ".virtualenvs",
    ".venvs",
    "venvs",
    "envs",
    ".local/share/virtualenvs",
    ".cache/pypoetry/virtualenvs",
)
#: What a venv in a project is called.
IN_PROJECTS = (".venv", "venv", "env", ".conda")
_ENVS_DIRS = re.compile(r"^(?:envs_dirs|envs_path):((?:[ \t]*\n?[ \t]*-[^\n]*)+|[^\n]*)", re.M)
#: No more directories of a home directory are looked into.
_MOST_PROJECTS = 1000


def conda_prefixes(environ: Mapping[str, str], home: str) -> Iterator[str]:
    """The conda environments that conda or mamba know, and those below roots in usual places."""
    listed = read(home + "/.conda/environments.txt", 1 << 20).splitlines()
    yield from (line.strip() for line in listed if line.strip())
    roots = [environ.get("CONDA_PREFIX", ""), environ.get("MAMBA_ROOT_PREFIX", "")]
    if environ.get("CONDA_EXE"):
        roots.append(os.path.dirname(os.path.dirname(environ["CONDA_EXE"])))
    roots += [home + "/" + name for name in (*_CONDA_DIRECTORIES, ".local/share/mamba")]
    for above in ("/opt", "/usr/local"):
        roots += ["{}/{}".format(above, name) for name in _CONDA_DIRECTORIES]
    for root in filter(None, roots):
        yield root
        yield from below(root + "/envs")
    for directory in [home + "/.conda/envs", *_envs_dirs(home)]:
        yield from below(directory)


def _envs_dirs(home: str) -> List[str]:
    """The directories of environments that a .condarc names."""
    found: List[str] = []
    for file in (home + "/.condarc", home + "/.conda/.condarc", "/etc/conda/.condarc"):
        for match in _ENVS_DIRS.finditer(read(file)):
            words = re.sub(r"(?m)^\s*-|[\[\],\"']|\s#.*$", " ", match.group(1)).split()
            found += [os.path.expanduser(word) for word in words]
    return found


def venv_prefixes(environ: Mapping[str, str], home: str) -> Iterator[str]:
    """The venvs in usual places: collections of them, and projects of the home directory."""
    for directory in [environ.get("WORKON_HOME", ""), *_VENV_DIRECTORIES]:
        if directory:
            yield from below(os.path.join(home, directory))
    yield environ.get("VIRTUAL_ENV", "")
    yield from in_project(home)
    projects = [name for name in names_in(home) if not name.startswith(".")]
    for name in projects[:_MOST_PROJECTS]:
        yield from in_project(os.path.join(home, name))
    looked = 0
    for name in projects[:_MOST_PROJECTS]:
        for project in below(os.path.join(home, name)):
            looked += 1
            if looked > _MOST_PROJECTS:
                return
            yield from in_project(project)


def named_prefixes(directory: str, home: str) -> Iterator[str]:
    """What may be an environment in a directory that somebody has named."""
    directory = os.path.join(home, os.path.expanduser(directory)).rstrip("/") or "/"
    for place in (directory, *below(directory)):
        yield place
        yield from in_project(place)
        yield from below(place + "/.pixi/envs")


def in_project(directory: str) -> Iterator[str]:
    for name in IN_PROJECTS:
        yield os.path.join(directory, name)


def pyenv_prefixes(environ: Mapping[str, str], home: str) -> Iterator[str]:
    """pyenv's versions, and the environments of its plug-in."""
    for prefix in below((environ.get("PYENV_ROOT") or home + "/.pyenv") + "/versions"):
        if not os.path.islink(prefix):  # a link leads to one of the environments
            yield prefix
            yield from below(prefix + "/envs")


def programs_on_path(environ: Mapping[str, str], names: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """The programs on PATH with one of these names or named like a Python: name and path."""
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        if not os.path.isabs(directory):
            continue
        for name in names_in(directory):
            program = os.path.join(directory, name)
            if (name in names or _PYTHON.fullmatch(name)) and os.access(program, os.X_OK):
                yield name, program


def below(directory: str) -> Iterator[str]:
    """The directories in a directory."""
    try:
        with os.scandir(directory) as entries:
            found = sorted(entry.path for entry in entries if entry.is_dir())
    except OSError:
        return
    yield from found
