"""R and Julia outside conda environments, and their kernel packages. Nothing is run.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
from typing import Iterator, Mapping, Optional

from ...protocol.answers import FoundInterpreter
from .packages import names_in, read
from .places import below

_R_HOME = re.compile(r"^R_HOME_DIR=([^\n]+)", re.M)
_VERSION = re.compile(r"^Version:\s*(\S+)", re.M)
_JULIA = re.compile(r"julia-(\d+\.\d+(?:\.\d+)?)")
_IJULIA = re.compile(r"\[\[(?:deps\.)?IJulia\]\].*?^version = \"([^\"]+)\"", re.S | re.M)


def r_of(program: str, environ: Mapping[str, str], home: str) -> Optional[FoundInterpreter]:
    """What the program R of a PATH directory is. Its text, a shell script, says where R lives."""
    text = read(program)
    match = _R_HOME.search(text)
    if match is None:
        return None
    directory = match.group(1).strip().strip("\"'")
    version = _VERSION.search(read(directory + "/library/base/DESCRIPTION"))
    if version is None:
        return None
    kernel, package = None, ""
    for library in _r_libraries(directory, version.group(1), environ, home):
        found = _VERSION.search(read(library + "/IRkernel/DESCRIPTION"))
        if found:
            kernel, package = found.group(1), library + "/IRkernel"
            break
    logos = package + "/kernelspec"
    return FoundInterpreter(
        kind="R",
        name="R",
        language="R",
        version=version.group(1),
        path=directory,
        program=program,
        package="IRkernel",
        package_version=kernel,
        installer=program,
        resources=logos if package and os.path.isdir(logos) else "",
    )


def _r_libraries(
    directory: str, version: str, environ: Mapping[str, str], home: str
) -> Iterator[str]:
    minor = ".".join(version.split(".")[:2])
    for name in ("R_LIBS", "R_LIBS_USER", "R_LIBS_SITE"):
        yield from filter(None, environ.get(name, "").split(os.pathsep))
    for platform in names_in(home + "/R"):
        yield "{}/R/{}/{}".format(home, platform, minor)
    if directory.startswith("/usr/"):
        yield "/usr/local/lib/R/site-library"
        yield "/usr/lib/R/site-library"
    yield directory + "/site-library"
    yield directory + "/library"


def julia_programs(home: str) -> Iterator[str]:
    """The programs of juliaup, and of /opt."""
    for above in (home + "/.julia/juliaup", "/opt"):
        for place in below(above):
            if _JULIA.search(place):
                yield place + "/bin/julia"


def julia_of(program: str, home: str) -> Optional[FoundInterpreter]:
    """What the program julia is; None if its path does not say its version."""
    real = os.path.realpath(program)
    named = _JULIA.search(real)
    if not os.access(real, os.X_OK) or named is None:
        return None
    version = named.group(1)
    minor = ".".join(version.split(".")[:2])
    manifest = "{}/.julia/environments/v{}/Manifest.toml".format(home, minor)
    found = _IJULIA.search(read(manifest, 1 << 22))
    return FoundInterpreter(
        kind="julia",
        name="julia" + minor,
        language="julia",
        version=version,
        path=os.path.dirname(os.path.dirname(real)),
        program=real,
        package="IJulia",
        package_version=found.group(1) if found else None,
        installer=real,
    )
