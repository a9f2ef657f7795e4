"""The command that installs a missing kernel package. Pure."""

from __future__ import annotations

import shlex

from ..protocol.answers import FoundInterpreter

#: The names of kernel packages in conda's channels.
_IN_CONDA = {"IRkernel": "r-irkernel"}


def install_command(found: FoundInterpreter) -> str:
    """One command for a shell on the host. After it, `found` can run kernels."""
    package, program = found.package, found.program
    if found.language == "julia":
        return shlex.join([program, "-e", f'using Pkg; Pkg.add("{package}")'])
    if found.kind == "conda":
        name = _IN_CONDA.get(package, package)
        return shlex.join([found.installer or "conda", "install", "--prefix", found.path, name])
    if found.language == "R":
        return shlex.join([program, "--slave", "-e", f'install.packages("{package}")'])
    if found.managed:
        # Only the system may install packages into it. So install into a venv of it.
        venv = f"~/.venvs/{found.name}"
        return f"{shlex.join([program, '-m', 'venv'])} {venv} && {venv}/bin/pip install {package}"
    if found.tool == "poetry" and not found.installer:
        return f"poetry add --group dev {package}"
    if found.tool == "uv" and not found.installer:
        return shlex.join(["uv", "pip", "install", "--python", program, package])
    install = shlex.join([program, "-m", "pip", "install", package])
    return (
        install if found.installer else f"{shlex.join([program, '-m', 'ensurepip'])} && {install}"
    )
