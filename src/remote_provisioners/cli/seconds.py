"""Options that are a number of seconds."""

from __future__ import annotations

from .command import MISUSED, CommandError


def positive_seconds(option: str, text: str) -> float:
    """Parse the value of `option`. Raises CommandError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < float("inf"):
        raise CommandError(f"--{option}={text}: must be a positive number of seconds", MISUSED)
    return seconds
