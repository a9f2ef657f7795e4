"""Which variables the activation of an environment sets.

They are computed from the prefix. Only the scripts in a conda environment's etc/conda/activate.d
have to be run in a shell, as `conda activate` does. That is done once, so that a kernel's start
needs no shell. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
import os
from typing import Dict, List, Mapping

from ...protocol.answers import Activation
from ..kernels.environment import session_free
from ..kernels.environment_hook import HookError, environment_after
from .packages import names_in, read

#: The prefix is in a variable, so no value becomes part of the shell's text.
_RUN_SCRIPTS = 'for __script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$__script"; done'
_UNSET = "***unset***"
#: Of the shell that has run the scripts.
_SHELL_VARIABLES = ("__script", "PS1", "BASHOPTS", "SHELLOPTS")


async def activate(
    kind: str, path: str, program: str, base: Mapping[str, str], directory: str
) -> Activation:
    """The variables to set so that `base` becomes the environment of an activated prefix.

    `directory`: for a temporary file.
    """
    environ = dict(base)
    scripts: List[str] = []
    if kind == "conda":
        environ.update(_of_conda(path))
        scripts = _scripts(path)
    elif kind == "venv":
        environ["VIRTUAL_ENV"] = path
    binaries = path + "/bin" if kind in ("conda", "venv") else os.path.dirname(program)
    on_path = environ.get("PATH", os.defpath).split(os.pathsep)
    # What an environment contains comes first. The rest need only be there.
    if on_path[0] != binaries and (kind in ("conda", "venv") or binaries not in on_path):
        environ["PATH"] = os.pathsep.join([binaries, *on_path])
    if scripts:
        try:
            environ = session_free(await environment_after(_RUN_SCRIPTS, environ, directory))
        except (HookError, OSError) as error:
            where = "{}/etc/conda/activate.d".format(path)
            return Activation(error="the scripts in {} failed: {}".format(where, error))
    changed = {
        name: _relative(name, value, base.get(name, ""))
        for name, value in environ.items()
        if value != base.get(name) and name not in _SHELL_VARIABLES
    }
    return Activation(env=changed, scripts=scripts)


def _of_conda(prefix: str) -> Dict[str, str]:
    """What `conda activate` sets itself, and the variables that are stored for it."""
    above = os.path.dirname(prefix)
    name = os.path.basename(prefix) if os.path.basename(above) == "envs" else prefix
    if os.path.isdir(prefix + "/condabin"):
        name = "base"
    found = {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": name, "CONDA_SHLVL": "1"}
    stored = prefix + "/etc/conda/env_vars.d"
    for file in names_in(stored):
        found.update(_variables(_read_json("{}/{}".format(stored, file))))
    found.update(_variables(_read_json(prefix + "/conda-meta/state").get("env_vars")))
    return found


def _read_json(path: str) -> Dict[str, object]:
    try:
        content = json.loads(read(path, 1 << 20))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _variables(stored: object) -> Dict[str, str]:
    pairs = stored.items() if isinstance(stored, dict) else ()
    return {name: str(value) for name, value in pairs if value != _UNSET}


def _scripts(prefix: str) -> List[str]:
    directory = prefix + "/etc/conda/activate.d"
    return [name for name in names_in(directory) if name.endswith(".sh")]


def _relative(name: str, value: str, before: str) -> str:
    """A value for a kernelspec: `before`, where it is a part of a path, is the host's then."""
    same = "${" + name + "}"
    if before and value.endswith(os.pathsep + before):
        return _escaped(value[: -len(before)]) + same
    if before and value.startswith(before + os.pathsep):
        return same + _escaped(value[len(before) :])
    return _escaped(value)


def _escaped(text: str) -> str:
    return text.replace("$", "$$")
