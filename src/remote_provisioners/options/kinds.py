"""The types of options: traits that also read ``RP_<OPTION>``."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from traitlets import Bool, Dict, Float, Int, List, Set, TraitError, TraitType, Unicode, Union

from ..errors import ConfigurationError

#: The error of traitlets for a value of the wrong kind.
_OF_ANOTHER_KIND = re.compile(
    r"The '(?P<name>\w+)' trait of .* instance expected (?P<kind>.+), "
    r"not (?:the \w+ )?(?P<value>.+)\."
)
_KINDS = {"an int": "a whole number", "a float": "a number", "a boolean": "true or false"}


def readable(error: Exception) -> str:
    """What is wrong with an option's value. Replaces the words of traitlets if we know them."""
    if isinstance(error, ValueError):  # Python's own, about a text that is not a number
        return "must be a number"
    found = _OF_ANOTHER_KIND.fullmatch(str(error))
    if found is None:
        return str(error)
    kind = _KINDS.get(found["kind"], found["kind"])
    return f"{found['name']} is {found['value']}, must be {kind}"


def _from_json(text: str, kind: type[list[Any]] | type[dict[str, Any]], needed: str) -> Any:
    """Raises TraitError."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise TraitError(f"must be {needed} in JSON")
    return found


class _FromEnvironment(TraitType[Any, Any]):
    """A trait whose default is ``RP_<NAME>`` if that variable is set."""

    def default(self, obj: Any = None) -> Any:
        text = os.environ.get(self.variable)
        if not text or obj is None:  # an empty one is unset
            return super().default(obj)
        try:
            return self.from_string(text)
        except (TraitError, ValueError) as error:
            raise ConfigurationError(f"{self.variable}={text!r}: {readable(error)}") from None

    @property
    def variable(self) -> str:
        return f"RP_{str(self.name).upper()}"


def separated(text: str) -> list[str]:
    """The words of a comma-separated text."""
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
        super().set(obj, separated(value) if isinstance(value, str) else value)

    def from_string(self, s: str) -> Any:
        return separated(s)

    def from_string_list(self, s_list: list[str]) -> Any:
        return [word for text in s_list for word in separated(text)]


class NameSet(_FromEnvironment, Set):
    """A set, a list, or comma-separated text."""

    def set(self, obj: Any, value: Any) -> None:
        super().set(obj, separated(value) if isinstance(value, str) else value)

    def from_string(self, s: str) -> Any:
        return set(separated(s))

    def from_string_list(self, s_list: list[str]) -> Any:
        return {word for text in s_list for word in separated(text)}


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
        return _from_json(s, list, "a list of words")


class Lines(_FromEnvironment, List[Any]):
    """Lines of text (in the environment: a list in JSON)."""

    def from_string(self, s: str) -> Any:
        return _from_json(s, list, "a list of lines")


class Table(_FromEnvironment, Dict):
    """A table (in the environment: an object in JSON)."""

    def from_string(self, s: str) -> Any:
        return _from_json(s, dict, "an object")


class Tables(_FromEnvironment, List[Any]):
    """A list of tables (in the environment: a list in JSON)."""

    def from_string(self, s: str) -> Any:
        return _from_json(s, list, "a list of tables")
