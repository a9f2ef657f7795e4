"""IPython's history: a database in the home directory, which a kernel opens when it starts.

Somebody may have locked it, as on NFS. Then IPython waits for 5 s, takes it for broken and moves it
away. A kernel that would have to wait keeps its history in memory. Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import os
from typing import List, Mapping, Sequence

from .. import apart
from ..forking.forkable import flags_of
from ..log import say

IN_MEMORY = "--HistoryManager.hist_file=:memory:"
_SECONDS = 1.0
#: Others hold the lock for a moment, to write.
_LOCKED_SECONDS = 0.25


async def usable(argv: Sequence[str], environ: Mapping[str, str]) -> List[str]:
    """The argv of a kernel; with another history, if its own would hold it up."""
    argv = list(argv)
    if flags_of(argv) is None or any("HistoryManager" in word for word in argv):
        return argv
    path = _path(argv, environ)
    try:
        why = await apart.run(path, lambda: trouble(path), seconds=_SECONDS)
    except OSError as error:
        why = str(error.strerror)
    if not why:
        return argv
    say("{}: {}; this kernel keeps its history in memory".format(path, why))
    return [*argv, IN_MEMORY]


def trouble(path: str) -> str:
    """Why a kernel would wait for this history; "" if it would not. May take for ever."""
    if not os.path.exists(path):
        return ""
    try:
        import sqlite3  # noqa: PLC0415 (an agent starts without)
    except ImportError:
        return ""
    try:
        database = sqlite3.connect(path, timeout=_LOCKED_SECONDS, isolation_level=None)
    except sqlite3.Error:
        return ""  # IPython deals with it
    try:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")
    except sqlite3.Error as error:
        return str(error) if "locked" in str(error) else ""
    finally:
        database.close()
    return ""


def _path(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or os.path.expanduser("~")
    directory = environ.get("IPYTHONDIR") or os.path.join(home, ".ipython")
    profile = "default"
    for word in argv:
        if word.startswith("--profile="):
            profile = word.partition("=")[2]
    return os.path.join(os.path.expanduser(directory), "profile_" + profile, "history.sqlite")
