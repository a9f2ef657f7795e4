"""The types of options: traits that also read ``RP_<OPTION>``."""

from __future__ import annotations

import json
import os
from typing import Any

from traitlets import Bool, Dict, Float, Int, List, Set, TraitError, TraitType, Unicode, Union

from ..errors import ConfigurationError


class _FromEnvironment(TraitType[Any, Any]):
    """A trait whose default is ``RP_<NAME>`` if that variable is set."""

    def default(self, obj: Any = None) -> Any:
        text = os.environ.get(self.variable)
        if not text or obj is None:  # an empty one is unset
            return super().default(obj)
        try:
            return self.from_string(text)
        except (TraitError, ValueError) as error:
            raise ConfigurationError(f"{self.variable}={text!r}: {error}") from None

    @property
    def variable(self) -> str:
        return f"RP_{str(self.name).upper()}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


class Text(_FromEnvironment, Unicode[str, Any]):
    """Text."""


class Seconds(_FromEnvironment, Float[float, Any]):
    """A number of seconds."""


class Count(_FromEnvironment, Int[int, Any]):
    """A number."""


class Mebibytes(_FromEnvironment, Float[float, Any]):
    """A number of MiB."""


class Flag(_FromEnvironment, Bool[bool, Any]):
    """Yes or no: ``true``, ``false``, ``1``, ``0``."""

    def from_string(self, s: str) -> Any:
        try:
            return super().from_string(s)
        except ValueError:  # its text has a %r in it
            raise TraitError(f"must be true, false, 1 or 0, is {s!r}") from None


class Names(_FromEnvironment, List[Any]):
    """A list, or comma-separated text."""

    def set(self, obj: Any, value: Any) -> None:
        super().set(obj, _words(value) if isinstance(value, str) else value)

    def from_string(self, s: str) -> Any:
        return _words(s)

    def from_string_list(self, s_list: list[str]) -> Any:
        return [word for text in s_list for word in _words(text)]


class NameSet(_FromEnvironment, Set):
    """A set, a list, or comma-separated text."""

    def set(self, obj: Any, value: Any) -> None:
        super().set(obj, _words(value) if isinstance(value, str) else value)

    def from_string(self, s: str) -> Any:
        return set(_words(s))

    def from_string_list(self, s_list: list[str]) -> Any:
        return {word for text in s_list for word in _words(text)}


class TextByHost(_FromEnvironment, Union):
    """A text for all hosts, or a table of texts by host, each host as in remote_hosts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([Unicode(), Dict(value_trait=Unicode(), key_trait=Unicode())], **kwargs)

    def from_string(self, s: str) -> Any:
        return s


class Way(_FromEnvironment, Union):
    """A word, or a command as a list of words (in the environment: a list in JSON)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([Unicode(), List(trait=Unicode())], **kwargs)

    def from_string(self, s: str) -> Any:
        return s


class CommandWords(_FromEnvironment, List[Any]):
    """The words of a command (in the environment: a list in JSON)."""

    def from_string(self, s: str) -> Any:
        words = json.loads(s)
        if not isinstance(words, list):
            raise ValueError("must be a list of words in JSON")
        return words


class Lines(_FromEnvironment, List[Any]):
    """Lines of text (in the environment: a list in JSON)."""

    def from_string(self, s: str) -> Any:
        lines = json.loads(s)
        if not isinstance(lines, list):
            raise ValueError("must be a list of lines in JSON")
        return lines


class Table(_FromEnvironment, Dict):
    """A table (in the environment: an object in JSON)."""

    def from_string(self, s: str) -> Any:
        table = json.loads(s)
        if not isinstance(table, dict):
            raise ValueError("must be an object in JSON")
        return table


class Tables(_FromEnvironment, List[Any]):
    """A list of tables (in the environment: a list in JSON)."""

    def from_string(self, s: str) -> Any:
        tables = json.loads(s)
        if not isinstance(tables, list):
            raise ValueError("must be a list of tables in JSON")
        return tables
