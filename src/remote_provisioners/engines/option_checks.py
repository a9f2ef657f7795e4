"""Checks of options that several engines have. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import ConfigurationError
from ..placement.way_in import check_user_name, check_words, fill
from ..user import user_name

_PYTHON = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./+-]*")
_USERNAME = frozenset({"username"})


def check_python(value: str) -> None:
    """Check the option `python`, an interpreter in an image. Raises ConfigurationError."""
    if value and not _PYTHON.fullmatch(value):
        raise ConfigurationError(f"python is {value!r}, must be a plain path or name")


def with_username(option: str, words: Iterable[str], username: str) -> tuple[str, ...]:
    """The words of `option` with the user's name, the server's user if that is empty.

    The name cannot add a part to a word. Raises ConfigurationError.
    """
    # The first word of a command may not be a placeholder.
    checked = check_words(option, [option, *words], _USERNAME)[1:]
    return fill(checked, {"username": check_user_name(username or user_name())})
