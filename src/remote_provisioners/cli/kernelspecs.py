"""Where kernelspecs are installed, and the options of commands that choose the place."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from .command import MISUSED, Command, CommandError


def kernelspec_manager(command: Command, **options: Any) -> KernelSpecManager:
    """Jupyter's manager of kernelspecs.

    It does not look for this machine's own Python kernel, because it warns if there is none.
    """
    return KernelSpecManager(parent=command, ensure_native_kernel=False, **options)


def place_flags(name: str) -> dict[str, Any]:
    """The flags of a command whose class has this name."""
    return {
        "user": ({name: {"user": True}}, "Install for this user only."),
        "sys-prefix": (
            {name: {"sys_prefix": True}},
            f"Install into this Python environment ({sys.prefix}).",
        ),
    }


def place(user: bool, sys_prefix: bool, prefix: str) -> dict[str, Any]:
    """The place as KernelSpecManager's methods take it: by default, for all users of the machine.

    Raises CommandError.
    """
    if user + sys_prefix + bool(prefix) > 1:
        raise CommandError("give only one of --user, --sys-prefix and --prefix", MISUSED)
    chosen = sys.prefix if sys_prefix else str(Path(prefix).expanduser()) if prefix else None
    return {"user": user, "prefix": chosen}


def destination(manager: KernelSpecManager, name: str, where: dict[str, Any]) -> Path:
    """The directory of a kernelspec of this name. `where` comes from `place`."""
    return Path(manager._get_destination_dir(name, **where))


def kernels_directory(
    manager: KernelSpecManager, user: bool, sys_prefix: bool, prefix: str
) -> Path:
    """The directory for kernelspecs. Raises CommandError, also if it cannot be written."""
    directory = destination(manager, "x", place(user, sys_prefix, prefix)).parent
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        given = user or sys_prefix or prefix
        advice = "" if given else "\nInstall with --user, --sys-prefix or --prefix=DIR"
        raise CommandError(f"cannot write {directory} (no permission for {existing}){advice}")
    return directory
