"""Who runs this process."""

from __future__ import annotations

import os
import pwd

#: By the user's number.
_entries: dict[int, pwd.struct_passwd] = {}


def user_name() -> str:
    """The user's name; the number of one without an entry in the user database (a container)."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):  # as getpass.getuser
        if os.environ.get(variable):
            return os.environ[variable]
    entry = database_entry()
    return entry.pw_name if entry is not None else str(os.getuid())


def user_and_machine() -> str:
    """Who runs this process, and where, for people who look at an engine's containers or pods."""
    return f"{user_name()}@{os.uname().nodename}"


def database_entry() -> pwd.struct_passwd | None:
    """The user's entry in the user database; None for a user without one (a container).

    It is asked once: a directory server (LDAP) may take seconds. The I/O thread does that before
    its loop runs.
    """
    uid = os.getuid()
    if uid not in _entries:
        try:
            _entries[uid] = pwd.getpwuid(uid)
        except KeyError:
            return None
    return _entries[uid]
