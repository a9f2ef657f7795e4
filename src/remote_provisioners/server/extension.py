"""The jupyter_server extension: a server finds the kernels of its predecessor again.

Enabled where the package is installed (etc/jupyter/jupyter_server_config.d).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from .manager_hooks import take_environments
from .records import Records, keep, records_parent
from .restore import Restorer
from .seen import show
from .sessions import Sessions

#: Of something that reads files and opens sockets of this machine.
_SECONDS = 10.0


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """By ServerApp.initialize, before anybody is answered: who asks finds the kernels there."""
    if serverapp.gateway_config.gateway_enabled:
        return  # its kernels are another server's, which keeps them
    sessions = Sessions(serverapp.session_manager, serverapp.log)
    restore_kernels(serverapp.kernel_manager, sessions, serverapp.root_dir, serverapp.io_loop)
    take_environments(serverapp)
    show(serverapp)


def restore_kernels(manager: Any, sessions: Sessions | None, root: str, io_loop: Any) -> Restorer:
    """Have the kernels of earlier servers of this directory in `manager`, and keep records."""
    records = Records(records_parent(), manager.log)
    restorer = Restorer(manager, sessions, records, str(Path(root).resolve()), server_name())
    keep(manager, restorer)
    restorer.watch()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        io_loop.run_sync(restorer.restore_all, timeout=_SECONDS)
    else:  # initialized by a program that runs the loop already
        restorer.spawn(restorer.restore_all())
    return restorer


def server_name() -> str:
    """What tells servers of one user apart that a hub has started in one directory."""
    return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
