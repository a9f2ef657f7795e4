"""The way in to a host and the user to run as: `connect` and `run_as` as configured. Pure.

``{host}``, ``{user}``, ``{port}`` and ``{username}`` are replaced within a word, which stays one
word whatever the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError

#: AUTOMATIC (the default): asyncssh, or openssh if the host's SSH configuration or sshd needs it.
AUTOMATIC, ASYNCSSH, OPENSSH, COMMAND = "automatic", "asyncssh", "openssh", "command"
WAYS_TEXT = "asyncssh, openssh, or a command as a list of words"
#: Starts another user's agent over a service account's connection.
DEFAULT_RUN_AS_COMMAND = ("sudo", "-n", "-u", "{user}", "-H", "--")

#: Characters of a command that errors show.
_SHOWN = 60
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_COMMAND_PLACEHOLDERS = frozenset({"host", "user", "port", "username"})
#: As the distributions' useradd allows it, plus capitals, which directory services allow.
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")


@dataclass(frozen=True)
class WayIn:
    """How to reach a host. `kind`: AUTOMATIC, ASYNCSSH, OPENSSH or COMMAND."""

    kind: str = AUTOMATIC
    #: The words of a command, complete.
    command: tuple[str, ...] = ()
    #: The user that owns the agent, if it is not the user who logs in.
    run_as: str = ""
    #: The words of a command that runs the words after it as that user.
    become: tuple[str, ...] = ()
    #: Check the host's key whatever ~/.ssh/config says.
    strict_host_keys: bool = False

    def __str__(self) -> str:
        """The text for errors."""
        way = "SSH" if self.kind == AUTOMATIC else self.kind
        if self.kind == COMMAND:
            text = " ".join(self.command)
            way = f"`{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}`"
        return f"{way} as {self.run_as}" if self.run_as else way


DEFAULT_WAY = WayIn()
Connect = str | tuple[str, ...]


def check_connect(option: str, value: Any) -> Connect:
    """Check a way in: a word, a list of words, or a list in JSON.

    Raises ConfigurationError that begins with `option`.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise ConfigurationError(
                f"{option}: {value!r} is not a list of words in JSON"
            ) from None
    if value in ("", ASYNCSSH, OPENSSH):
        return str(value)
    return check_words(option, value, _COMMAND_PLACEHOLDERS, WAYS_TEXT)


def check_words(
    option: str, value: Any, placeholders: frozenset[str], needed: str = "a list of words"
) -> tuple[str, ...]:
    """Check the words of a command. Raises ConfigurationError.

    `needed`: what the option may be, for the error about a value of another kind.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ConfigurationError(f"{option} is {value!r}, must be {needed}")
    for word in value:
        if not isinstance(word, str) or not word or "\0" in word or "\n" in word:
            raise ConfigurationError(f"{option}: {word!r} is not a word of a command")
        for name in _PLACEHOLDER.findall(word):
            if name not in placeholders:
                known = ", ".join(f"{{{known}}}" for known in sorted(placeholders))
                raise ConfigurationError(f"{option}: unknown {{{name}}} (known: {known})")
    if value[0].startswith(("-", "{")):
        raise ConfigurationError(f"{option}: {value[0]!r} is not a program")
    return tuple(value)


def check_run_as(option: str, value: Any) -> str:
    """Check a user to run as: a name or ``{username}``. Raises ConfigurationError."""
    if value == "" or (isinstance(value, str) and value == "{username}"):
        return str(value)
    if not isinstance(value, str) or not _USER_NAME.fullmatch(value):
        raise ConfigurationError(f"{option}: {value!r} is neither a user name nor {{username}}")
    return value


def check_run_as_command(option: str, value: Any) -> tuple[str, ...]:
    """Check the command that runs others as a user. Raises ConfigurationError."""
    words = check_words(option, value, frozenset({"user"}))
    if not any("{user}" in word for word in words):
        raise ConfigurationError(f"{option}: no word contains {{user}}")
    return words


def check_user_name(text: str) -> str:
    """Check that a request's user name can be a word of a command. Raises ConfigurationError."""
    if not _USER_NAME.fullmatch(text):
        raise ConfigurationError(
            f"KERNEL_USERNAME is {text!r}, which cannot be a user name on a host"
        )
    return text


def fill(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Replace the placeholders in the words with values. Raises ConfigurationError.

    A missing value is an error, because the word would mean something else without it.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        found = values.get(name, "")
        if not found:
            raise ConfigurationError(f"there is no value for {{{name}}} in {list(words)}")
        if found.startswith("-"):
            raise ConfigurationError(f"{found!r} for {{{name}}} looks like an option")
        return found

    return tuple(_PLACEHOLDER.sub(value, word) for word in words)


@dataclass(frozen=True)
class WayOptions:
    """The configuration of hosts without their own."""

    connect: Connect = ""
    run_as: str = ""
    run_as_command: tuple[str, ...] = DEFAULT_RUN_AS_COMMAND
    strict_host_keys: bool = False

    def way_in(self, connect: Connect, run_as: str, values: Mapping[str, str]) -> WayIn:
        """The way into one host. `values` fill the placeholders. Raises ConfigurationError."""
        connect = connect or self.connect or AUTOMATIC
        run_as = run_as or self.run_as
        become: tuple[str, ...] = ()
        if run_as:
            run_as = check_user_name(values["username"]) if run_as == "{username}" else run_as
            become = fill(self.run_as_command, {"user": run_as})
        kind, command = (connect, ()) if isinstance(connect, str) else (COMMAND, connect)
        return WayIn(kind, fill(command, values), run_as, become, self.strict_host_keys)
