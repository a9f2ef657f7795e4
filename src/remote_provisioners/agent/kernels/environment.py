"""What a kernel runs with: its environment, argv and working directory. No I/O but `which`.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Dict, List, Mapping, Sequence

#: Variables of the SSH session that happened to start the agent. Kernels do not get them.
_SESSION_VARIABLES = re.compile(r"SSH_.*|XDG_SESSION_.*|_|OLDPWD|PWD|SHLVL")
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})"
)
_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_]+)\}")
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


class CommandError(Exception):
    """The command cannot be run; the message says why."""


def session_free(environ: Mapping[str, str]) -> Dict[str, str]:
    """`environ` without the variables of the login session that it comes from."""
    return {k: v for k, v in environ.items() if not _SESSION_VARIABLES.fullmatch(k)}


def expand(text: str, values: Mapping[str, str]) -> str:
    """Fill in ``$NAME``, ``${NAME}`` and ``${NAME:-default}``; ``$$`` is a dollar.

    One pass, so a value is never expanded again. An unknown name without a default stays as it
    is, as in jupyter_client.
    """

    def value(match: re.Match[str]) -> str:
        if match.group("escaped"):
            return "$"
        known = values.get(match.group("plain") or match.group("name"))
        if match.group("default") is not None:
            return known or match.group("default")
        return match.group() if known is None else known

    return _VARIABLE.sub(value, text)


def kernel_environment(
    base: Mapping[str, str], spec: Mapping[str, str], request: Mapping[str, str]
) -> Dict[str, str]:
    """The host's environment, then the kernelspec's (expanded), then the request's (literal).

    Later ones win.
    """
    environ = dict(base)
    environ.update(request)
    for name, text in spec.items():
        environ[name] = expand(text, environ)
    environ.update(request)
    return environ


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Fill in ``{name}``, in one pass; an unknown name stays as it is."""
    return _PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group()), text)


def has_placeholder(text: str) -> bool:
    """Whether `text` has a ``{name}`` in it."""
    return _PLACEHOLDER.search(text) is not None


def travelled(word: str, origin: str, directory: str) -> str:
    """Turn `word`, a path below `origin` on the server, into the path below `directory` here.

    A path that exists here already stays as it is.
    """
    below = word[len(origin) :]
    if not origin or not word.startswith(origin + "/") or os.path.exists(word):
        return word
    return directory + below


def resolve_command(argv: Sequence[str], python: str, environ: Mapping[str, str]) -> List[str]:
    """argv with an absolute program; a program named python becomes the interpreter `python`.

    Raises CommandError when there is no such program on this host.
    """
    program, path = argv[0], environ.get("PATH", os.defpath)
    if _PYTHON.fullmatch(program):
        candidates = [python] if python else ["python3", "python"]
    else:
        candidates = [program]
    for candidate in candidates:
        found = shutil.which(os.path.expanduser(candidate), path=path)
        if found:
            return [os.path.abspath(found), *argv[1:]]
    if os.path.dirname(candidates[0]):
        why = _why_not(os.path.expanduser(candidates[0]))
        raise CommandError("program {!r} {}".format(candidates[0], why))
    raise CommandError("program {!r} is not on PATH ({})".format(candidates[0], path))


def _why_not(path: str) -> str:
    """Why the program `path` cannot be run."""
    closed = _closed(path)
    if closed:
        return "cannot be reached: this user may not enter {}".format(closed)
    return "is not executable" if os.path.exists(path) else "does not exist"


def _closed(path: str) -> str:
    """The outermost directory above `path` that we may not enter; "" for none."""
    closed, directory = "", os.path.abspath(path)
    while directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
        if os.path.isdir(directory) and not os.access(directory, os.X_OK):
            closed = directory
    return closed


def working_directory(candidates: Sequence[str], home: str) -> str:
    """The first candidate that is a directory here, else the home directory, else ``/``."""
    for candidate in [*candidates, home]:
        path = os.path.expanduser(candidate)
        if os.path.isabs(path) and os.path.isdir(path) and os.access(path, os.X_OK):
            return path
    return "/"
