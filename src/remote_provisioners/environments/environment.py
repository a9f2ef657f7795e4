"""The environments of a host, made of its agent's findings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from ..protocol.answers import FoundEnvironments, FoundInterpreter, FoundKernelspec
from .install_command import install_command

#: The languages whose names and versions make a title.
_LANGUAGES = {"python": "Python", "R": "R", "julia": "Julia"}
#: The names that kernel packages give their kernelspecs by default.
_DEFAULT_NAMES = ("python3", "python", "ir")
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_OF_PYTHON = ("-m", "ipykernel_launcher", "-f", "{connection_file}")
_OF_R = ("--slave", "-e", "IRkernel::main()", "--args", "{connection_file}")
_KERNEL_WORDS = {"ipykernel": ("ipykernel", "ipykernel_launcher"), "IRkernel": (_OF_R[2],)}


@dataclass(frozen=True)
class Environment:
    """An interpreter with its packages, or a kernelspec of the host.

    `kind` is conda, venv, python, R, julia, module or kernelspec. If it cannot run a kernel yet,
    `argv` is empty, `missing` is the reason, and `install` is the command that helps.
    """

    kind: str
    name: str
    title: str
    language: str
    version: str
    path: str
    program: str
    package: str = ""
    package_version: str | None = None
    argv: tuple[str, ...] = ()
    #: The other content of the host's kernel.json.
    spec: Mapping[str, Any] = field(default_factory=dict)
    #: The directory with the kernelspec's files; "" for none.
    files: str = ""
    missing: str = ""
    install: str = ""
    #: Its kernels need the activation of this interpreter: kind, path, program.
    activated: tuple[str, str, str] | None = None

    @property
    def usable(self) -> bool:
        return bool(self.argv)

    @property
    def key(self) -> str:
        """Identifies the environment. Equal in each scan and on each host."""
        return f"{self.kind}:{self.language}:{self.path}"

    @property
    def keys(self) -> set[str]:
        """Its key and, for a kernelspec, the key of its interpreter."""
        owner = (
            {f"{self.activated[0]}:{self.language}:{self.activated[1]}"} if self.activated else ()
        )
        return {self.key, *owner}

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "kind": self.kind,
            "name": self.name,
            "title": self.title,
            "language": self.language,
            "version": self.version,
            "path": self.path,
            "program": self.program,
            "package": self.package,
            "package_version": self.package_version,
            "usable": self.usable,
            "missing": self.missing,
            "install": self.install,
        }


def environments_of(found: FoundEnvironments) -> list[Environment]:
    """Each environment once. Usable environments come first.

    If an interpreter has a kernelspec with a name of its own, the list has only the kernelspec.
    """
    interpreters = list(found.interpreters)
    covered: set[int] = set()
    listed: list[Environment] = []
    for kernelspec in found.kernelspecs:
        owner = _interpreter_of(kernelspec, interpreters)
        standard = owner is not None and _runs_package(kernelspec.spec["argv"], owner.package)
        named = kernelspec.name not in _DEFAULT_NAMES or kernelspec.spec.get("env")
        if owner is not None and standard and not named:
            continue  # the interpreter gives the same kernel
        listed.append(_of_kernelspec(kernelspec, owner, standard))
        if owner is not None and (standard or owner.language == "julia"):
            covered.add(id(owner))
    listed += [_of_interpreter(i) for i in interpreters if id(i) not in covered]
    return sorted(_told_apart(listed), key=lambda e: not e.usable)


def _interpreter_of(
    kernelspec: FoundKernelspec, interpreters: Iterable[FoundInterpreter]
) -> FoundInterpreter | None:
    """The interpreter that a kernelspec starts."""
    if not kernelspec.program:
        return None
    program = PurePosixPath(kernelspec.program)
    prefix = str(program.parent.parent)
    is_python = _PYTHON.fullmatch(program.name) is not None
    candidates = [
        i
        for i in interpreters
        if i.program == kernelspec.program
        or (i.path == prefix and (i.language == "python") == is_python)
    ]
    exact = [i for i in candidates if program.name == f"python{_minor(i.version)}"]
    return next(iter(exact or candidates), None)


def _runs_package(argv: Sequence[str], package: str) -> bool:
    return bool(set(_KERNEL_WORDS.get(package, ())) & set(argv))


def _of_interpreter(found: FoundInterpreter) -> Environment:
    command = {"python": _OF_PYTHON, "R": _OF_R}.get(found.language)
    installed = found.package_version is not None
    if found.language == "julia":
        missing = f"it has no kernelspec; the installation of {found.package} makes one"
    else:
        missing = f"{found.package} is not installed"
    usable = installed and command is not None
    return Environment(
        kind=found.kind,
        name=found.name,
        title=_title(found),
        language=found.language,
        version=found.version,
        path=found.path,
        program=found.program,
        package=found.package,
        package_version=found.package_version,
        argv=(found.program, *command) if usable and command is not None else (),
        files=found.resources,
        missing="" if usable else missing,
        install="" if usable else install_command(found),
        activated=(found.kind, found.path, found.program),
    )


def _of_kernelspec(
    found: FoundKernelspec, owner: FoundInterpreter | None, standard: bool
) -> Environment:
    spec = dict(found.spec)
    for name in ("env", "metadata"):  # they may contain anything
        spec[name] = spec[name] if isinstance(spec.get(name), Mapping) else {}
    spec["env"] = {name: value for name, value in spec["env"].items() if isinstance(value, str)}
    if spec.get("interrupt_mode") not in ("signal", "message"):
        spec.pop("interrupt_mode", None)
    argv = [str(word) for word in spec.pop("argv")]
    title = str(spec.pop("display_name", "") or found.name)
    if owner is not None and _PYTHON.fullmatch(argv[0]):
        argv[0] = owner.program  # the same word means another Python elsewhere
    missing = install = ""
    if not found.program:
        missing = f"its program {argv[0]} does not exist"
    elif owner is not None and standard and owner.package_version is None:
        missing, install = f"{owner.package} is not installed", install_command(owner)
    return Environment(
        kind="kernelspec",
        name=found.name,
        title=title,
        language=str(spec.pop("language", "") or ""),
        version=owner.version if owner is not None else "",
        path=found.path,
        program=found.program,
        package=owner.package if owner is not None and standard else "",
        package_version=owner.package_version if owner is not None and standard else None,
        argv=() if missing else tuple(argv),
        spec=spec,
        files=found.path,
        missing=missing,
        install=install,
        activated=_activated(found, owner),
    )


def _activated(
    found: FoundKernelspec, owner: FoundInterpreter | None
) -> tuple[str, str, str] | None:
    if owner is not None:
        return owner.kind, owner.path, owner.program
    if found.environment:  # such as xeus-cling, which does not use the environment's Python
        return found.environment_kind, found.environment, found.program
    return None


def _title(found: FoundInterpreter) -> str:
    title = f"{_LANGUAGES.get(found.language, found.language)} {_minor(found.version)}".rstrip()
    return f"{title} ({found.name})" if found.kind in ("conda", "venv", "module") else title


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _told_apart(listed: Sequence[Environment]) -> Iterator[Environment]:
    """Make titles differ: if two environments have the same title, add their paths."""
    titles = [environment.title for environment in listed]
    for environment in listed:
        if titles.count(environment.title) == 1:
            yield environment
        else:
            title = environment.title.removesuffix(f" ({environment.name})")
            yield replace(environment, title=f"{title} ({environment.path})")
