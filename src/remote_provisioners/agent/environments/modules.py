"""The modules of Environment Modules and Lmod that bring a Python, R or Julia.

Their files are read, and `prepend-path PATH` in them says where the programs are. No module is
loaded. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, Mapping, Tuple

from .packages import names_in, read

_NAME = re.compile(
    r"(?:.*[-_/])?(python|anaconda|miniconda|miniforge|mambaforge|pytorch|tensorflow|jupyter"
    r"|r|julia)[\d.]*(?:[-_].*)?",
    re.IGNORECASE,
)
_DEFAULT_PATHS = ("/etc/modulefiles", "/usr/share/modulefiles", "/usr/share/modules/modulefiles")
_TCL_PATH = re.compile(r"^[ \t]*prepend-path[ \t]+(?:.*[ \t])?PATH[ \t]+(\S+)", re.M)
_TCL_SET = re.compile(r"^\s*set\s+(\w+)\s+(\S+)", re.M)
_TCL_VALUE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LUA_PATH = re.compile(r"prepend_path\s*\(\s*[\"']PATH[\"']\s*,\s*(.+)\)\s*(?:--.*)?$", re.M)
_LUA_SET = re.compile(r"^\s*local\s+(\w+)\s*=\s*(.+?)\s*(?:--.*)?$", re.M)
_LUA_JOIN = re.compile(r"pathJoin\s*\((.*)\)")
#: Directories of versions that are looked into, and files.
_MOST = 500


def module_paths(environ: Mapping[str, str]) -> List[str]:
    """The directories of module files."""
    found = [part for part in environ.get("MODULEPATH", "").split(os.pathsep) if part]
    if not found:
        configured = read("/etc/environment-modules/modulespath").splitlines()
        lines = [line.partition("#")[0].strip() for line in configured]
        found = [line for line in lines if os.path.isabs(line) and "$" not in line]
    return list(dict.fromkeys([*found, *_DEFAULT_PATHS]))


def modules_in(directory: str) -> Iterator[Tuple[str, str]]:
    """The file of each such module below `directory`, and the first directory that it adds to
    PATH.
    """
    for number, (name, path) in enumerate(_files(directory)):
        if number >= _MOST:
            return
        binaries = _binaries(path, name)
        if binaries:
            yield path, binaries


def directory_and_name(path: str) -> Tuple[str, str]:
    """The directory of modules that a module's file is in, and the name to load it by."""
    above, name = os.path.split(_without_lua(path))
    parent = os.path.basename(above)
    if _NAME.fullmatch(parent):
        return os.path.dirname(above), "{}/{}".format(parent, name)
    return above, name


def _files(directory: str) -> Iterator[Tuple[str, str]]:
    """The names ``python/3.11`` with their files. Core/python is not looked for: Core is a
    directory of its own in MODULEPATH.
    """
    for name in names_in(directory):
        path = os.path.join(directory, name)
        if not _NAME.fullmatch(name.replace(".lua", "")) or name.startswith("."):
            continue
        if os.path.isfile(path):
            yield _without_lua(name), path
            continue
        for version in names_in(path):
            file = os.path.join(path, version)
            if not version.startswith(".") and os.path.isfile(file):
                yield "{}/{}".format(name, _without_lua(version)), file


def _without_lua(name: str) -> str:
    return name[: -len(".lua")] if name.endswith(".lua") else name


def _binaries(path: str, name: str) -> str:
    """The directory of programs that a module file adds, "" if that cannot be read from it."""
    text = read(path)
    values: Dict[str, str] = {}
    if path.endswith(".lua"):
        for variable, value in _LUA_SET.findall(text):
            values[variable] = _lua(value, values, name)
        found = [_lua(value, values, name) for value in _LUA_PATH.findall(text)]
    else:
        for variable, value in _TCL_SET.findall(text):
            values[variable] = _tcl(value, values)
        found = [_tcl(value, values) for value in _TCL_PATH.findall(text)]
    return next((place for place in found if os.path.isabs(place) and os.path.isdir(place)), "")


def _tcl(text: str, values: Mapping[str, str]) -> str:
    text = text.strip('"{}') if text[:1] in '"{' else text
    return _TCL_VALUE.sub(lambda m: values.get(m.group(1) or m.group(2), m.group()), text)


def _lua(text: str, values: Mapping[str, str], name: str) -> str:
    """The value of a text, a variable, ``a .. b``, pathJoin(...) or myModuleVersion()."""
    joined = _LUA_JOIN.fullmatch(text.strip())
    if joined:
        return "/".join(_lua(part, values, name) for part in joined.group(1).split(","))
    parts = []
    for part in text.split(".."):
        word = part.strip()
        if word[:1] in "\"'":
            parts.append(word.strip("\"'"))
        elif word == "myModuleVersion()":
            parts.append(name.rpartition("/")[2])
        else:
            parts.append(values.get(word, "?"))
    return "".join(parts)
