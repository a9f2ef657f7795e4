"""What a prefix is: a conda environment, a venv, or a Python's own. Nothing is run.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, Mapping, Optional

from ...protocol.answers import FoundInterpreter
from .packages import (
    conda_records,
    minor_version,
    names_in,
    package_version,
    patch_version,
    settings_of,
    site_directories,
)

KERNEL = "ipykernel"
#: Directory names of venvs that say nothing: the project's name does.
_NAMELESS = (".venv", "venv", "env", ".env", "virtualenv")
_OF_POETRY = re.compile(r"(.+)-[\w-]{8}-py\d+\.\d+")
_OF_PIPENV = re.compile(r"(.+)-[\w-]{8}")
_CONDAS = ("mamba", "conda", "micromamba")


def is_conda(prefix: str) -> bool:
    return os.path.isdir(prefix + "/conda-meta")


def is_venv(prefix: str) -> bool:
    return os.path.isfile(prefix + "/pyvenv.cfg")


def python_of(prefix: str) -> str:
    """The Python program of a prefix, "" if it has none."""
    for name in ("python", "python3"):
        program = "{}/bin/{}".format(prefix, name)
        if os.access(program, os.X_OK):
            return program
    return ""


def of_conda(prefix: str, environ: Mapping[str, str]) -> Iterator[FoundInterpreter]:
    """The interpreters in a conda environment: Python, R, Julia or none."""
    versions: Dict[str, str] = {name: version for name, version, _ in conda_records(prefix)}
    name, root = _conda_name(prefix)
    installer = _conda_program(root, environ)
    program = python_of(prefix)
    if program and "python" in versions:
        minor = ".".join(versions["python"].split(".")[:2])
        at = site_directories(prefix, minor)[:1]
        found, directory = package_version(at, KERNEL)
        yield FoundInterpreter(
            kind="conda",
            name=name,
            language="python",
            version=versions["python"],
            path=prefix,
            program=program,
            package=KERNEL,
            package_version=versions.get(KERNEL) or found,
            installer=installer,
            resources=_logos(directory or at[0]),
        )
    for language, package, kernel in (("R", "r-base", "r-irkernel"), ("julia", "julia", "")):
        program = "{}/bin/{}".format(prefix, language)
        if package in versions and os.access(program, os.X_OK):
            directory = prefix + "/lib/R/library/IRkernel/kernelspec"
            yield FoundInterpreter(
                kind="conda",
                name=name,
                language=language,
                version=versions[package],
                path=prefix,
                program=program,
                package="IRkernel" if kernel else "IJulia",
                package_version=versions.get(kernel) if kernel else None,
                installer=installer,
                resources=directory if kernel and os.path.isdir(directory) else "",
            )


def _conda_name(prefix: str) -> List[str]:
    """The name of a conda environment, and the root of its conda, "" if that is not known."""
    above = os.path.dirname(prefix)
    if os.path.isdir(prefix + "/condabin"):
        return ["base", prefix]
    name = os.path.basename(prefix)
    if name in (".conda", *_NAMELESS):
        return [os.path.basename(above), ""]
    if name == "default" and above.endswith("/.pixi/envs"):
        return [os.path.basename(os.path.dirname(os.path.dirname(above))), ""]
    return [name, os.path.dirname(above) if os.path.basename(above) == "envs" else ""]


def _conda_program(root: str, environ: Mapping[str, str]) -> str:
    """The program that installs packages into an environment, "" if none is found."""
    places = ["{}/bin/{}".format(root, name) for name in _CONDAS] if root else []
    given = [environ[name] for name in ("MAMBA_EXE", "CONDA_EXE") if environ.get(name)]
    for program in [*places, *given]:
        if os.access(program, os.X_OK):
            return program
    for directory in environ.get("PATH", "").split(os.pathsep):
        for name in _CONDAS:
            if directory and os.access(os.path.join(directory, name), os.X_OK):
                return name
    return ""


def of_venv(prefix: str, home: str) -> Optional[FoundInterpreter]:
    """The Python of a venv; None if there is none."""
    program, settings = python_of(prefix), settings_of(prefix)
    minor = minor_version(prefix, program) if program else ""
    if not minor:
        return None
    version = settings.get("version_info") or settings.get("version") or minor
    at = site_directories(prefix, minor)[:1]
    if settings.get("include-system-site-packages", "").lower() == "true":
        base = os.path.dirname(os.path.dirname(os.path.realpath(program)))
        at += [_user_site(home, minor), *site_directories(base, minor)]
    found, directory = package_version(at, KERNEL)
    name, tool = _venv_name(prefix, settings)
    return FoundInterpreter(
        kind="venv",
        name=name,
        language="python",
        version=".".join(version.split(".")[:3]),
        path=prefix,
        program=program,
        package=KERNEL,
        package_version=found,
        tool=tool,
        installer=program if _has_pip(at) else "",
        resources=_logos(directory),
    )


def _venv_name(prefix: str, settings: Mapping[str, str]) -> List[str]:
    """The name of a venv and the tool that made it, "" if that is not known."""
    above, name = os.path.split(prefix)
    tool = "uv" if "uv" in settings else "virtualenv" if "virtualenv" in settings else ""
    if above.endswith("/pypoetry/virtualenvs"):
        match = _OF_POETRY.fullmatch(name)
        return [match.group(1) if match else name, "poetry"]
    if os.path.isfile(prefix + "/.project"):  # pipenv notes the project
        match = _OF_PIPENV.fullmatch(name)
        return [match.group(1) if match else name, "pipenv"]
    if name in _NAMELESS:
        if os.path.isfile(above + "/poetry.lock"):
            tool = "poetry"
        elif os.path.isfile(above + "/Pipfile"):
            tool = "pipenv"
        return [os.path.basename(above) or name, tool]
    return [name, tool]


def of_python(prefix: str, program: str, home: str) -> Optional[FoundInterpreter]:
    """A Python that is no environment: of the system, pyenv, or another directory."""
    minor = minor_version(prefix, program)
    if not minor:
        return None
    library = "{}/lib/python{}".format(prefix, minor)
    managed = os.path.isfile(library + "/EXTERNALLY-MANAGED")
    at = [_user_site(home, minor), *site_directories(prefix, minor)]
    found, directory = package_version(at, KERNEL)
    of_pyenv = os.path.basename(os.path.dirname(prefix)) == "versions"
    return FoundInterpreter(
        kind="python",
        name="python" + minor,
        language="python",
        version=patch_version(prefix, minor),
        path=prefix,
        program=program,
        package=KERNEL,
        package_version=found,
        tool="pyenv" if of_pyenv and "pyenv" in prefix else "",
        installer=program if _has_pip(at) else "",
        managed=managed,
        resources=_logos(directory),
    )


def _user_site(home: str, minor: str) -> str:
    return "{}/.local/lib/python{}/site-packages".format(home, minor)


def _has_pip(directories: List[str]) -> bool:
    return any(os.path.isdir(directory + "/pip") for directory in directories)


def _logos(directory: str) -> str:
    """Where ipykernel's logos are."""
    logos = "{}/{}/resources".format(directory, KERNEL)
    return logos if directory and "logo-64x64.png" in names_in(logos) else ""
