"""Who runs this process."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """The user's name; the number of one without an entry in the user database (a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def user_and_machine() -> str:
    """Who runs this process, and where, for people who look at an engine's containers or pods."""
    return f"{user_name()}@{os.uname().nodename}"
