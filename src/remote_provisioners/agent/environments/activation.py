"""Which variables the activation of an environment sets.

They are computed from the prefix. Only the scripts in a conda environment's etc/conda/activate.d,
and modules, have to be run in a shell, as `conda activate` and `module load` do. That is done once,
so that a kernel's start needs no shell. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
import os
import re
from typing import Dict, List, Mapping

from ...protocol.answers import Activation
from ..kernels.environment import session_free
from ..kernels.environment_hook import HookError, environment_after
from .modules import directory_and_name
from .packages import names_in, read

#: The prefix is in a variable, so no value becomes part of the shell's text.
_RUN_SCRIPTS = 'for __script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$__script"; done'
#: As a login shell does it. Which of them is there depends on the site.
_START_MODULES = """
for __init in "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" /etc/profile.d/lmod.sh \\
    /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh /usr/share/lmod/lmod/init/bash \\
    /usr/share/modules/init/bash; do
    if ! command -v module >/dev/null && [ -r "$__init" ]; then . "$__init"; fi
done
command -v module >/dev/null || { echo "there is no command module" >&2; exit 1; }
"""
_LOAD_MODULE = 'module use "$__MODULES"; module load "$__MODULE"'
_UNSET = "***unset***"
#: Of the shell that has run the scripts, and of the command module itself.
_SHELL_VARIABLES = re.compile(r"__.*|_ModuleTable.*|PS1|BASHOPTS|SHELLOPTS|MODULEPATH")


async def activate(
    kind: str, path: str, program: str, base: Mapping[str, str], directory: str
) -> Activation:
    """The variables to set so that `base` becomes the environment of an activated prefix.

    `directory`: for a temporary file.
    """
    if kind == "module":
        return await _of_module(path, base, directory)
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
    return Activation(env=_changes(base, environ), scripts=scripts)


async def _of_module(path: str, base: Mapping[str, str], directory: str) -> Activation:
    """What `module load` sets. The shell's part of modules is not a part of that."""
    where, name = directory_and_name(path)
    environ = {**base, "__MODULES": where, "__MODULE": name}
    try:
        before = await environment_after(_START_MODULES, environ, directory)
        after = await environment_after(_START_MODULES + _LOAD_MODULE, environ, directory)
    except (HookError, OSError) as error:
        return Activation(error="module load {}: {}".format(name, error))
    changed = _changes(before, session_free(after))
    return Activation(env=changed, scripts=["module load " + name] if changed else [])


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Dict[str, str]:
    """The variables that differ, as a kernelspec has them."""
    return {
        name: _relative(name, value, before.get(name, ""))
        for name, value in after.items()
        if value != before.get(name) and not _SHELL_VARIABLES.fullmatch(name)
    }


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
