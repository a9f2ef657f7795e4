"""The words that may follow each command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from traitlets.utils.importstring import import_item

from ..command import dashed
from ..spec.samples import samples


@dataclass(frozen=True)
class Word:
    """`text` ends with = if a value follows."""

    text: str
    help: str


@dataclass(frozen=True)
class Place:
    """`path`: the words after `jupyter remote` that lead here, such as ``spec install``."""

    path: str
    words: tuple[Word, ...]


def places(command: Any, path: str = "") -> Iterator[Place]:
    """This command (a class) and those below it."""
    # A command that does not set it has the declaration of the base class.
    below = command.subcommands if isinstance(command.subcommands, dict) else {}
    words = [Word(name, _sentence(text)) for name, (_, text) in below.items()]
    words += _options(command)
    if path == "spec install":
        words += [Word(sample, "a sample kernelspec") for sample in samples()]
    yield Place(path, tuple(words))
    for name, (found, _) in below.items():
        yield from places(import_item(found), f"{path} {name}".lstrip())


def _options(command: Any) -> Iterator[Word]:
    yield Word("--help", "Print the help of this command.")
    for flag, (_, text) in command.flags.items():
        yield Word(dashed(flag), _sentence(text))
    for alias, target in command.aliases.items():
        yield Word(f"{dashed(alias)}=", _help(command, target))


def _help(command: Any, target: Any) -> str:
    """The help of the trait that an alias sets."""
    if isinstance(target, tuple):
        return _sentence(target[1])
    owner, _, name = target.partition(".")
    declaring = [command, *(command.classes if isinstance(command.classes, list) else ())]
    known = {base.__name__: base for declared in declaring for base in declared.mro()}
    trait = known[owner].class_traits().get(name) if owner in known else None
    return _sentence(trait.help) if trait is not None else ""


def _sentence(text: str) -> str:
    """The first sentence, on one line."""
    return " ".join(text.split()).split(". ")[0].rstrip(".")
