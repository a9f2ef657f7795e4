"""The directory for kernelspecs, and the options that choose it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from ..command import CommandError


def flags(name: str) -> dict[str, Any]:
    """The flags of a command whose class has this name."""
    return {
        "user": ({name: {"user": True}}, "Install for this user only."),
        "sys-prefix": (
            {name: {"sys_prefix": True}},
            f"Install into this Python environment ({sys.prefix}).",
        ),
    }


def kernels_directory(
    manager: KernelSpecManager, user: bool, sys_prefix: bool, prefix: str
) -> Path:
    """The directory for kernelspecs. Without an option, the one for all users of the machine.

    Raises CommandError, also if this process may not write there.
    """
    if user + sys_prefix + bool(prefix) > 1:
        raise CommandError("give only one of --user, --sys-prefix and --prefix")
    where = sys.prefix if sys_prefix else str(Path(prefix).expanduser()) if prefix else None
    directory = Path(manager._get_destination_dir("x", user=user, prefix=where)).parent
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        given = user or sys_prefix or prefix
        advice = "" if given else "\nInstall with --user, --sys-prefix or --prefix=DIR"
        raise CommandError(f"cannot write {directory} (no permission for {existing}){advice}")
    return directory
