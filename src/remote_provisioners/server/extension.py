"""The jupyter_server extension, which restores the kernels of earlier servers.

The installation enables it (etc/jupyter/jupyter_server_config.d).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from .early_imports import import_early
from .hooks.session_manager import take_environments
from .restore.keepers import keep
from .restore.record_keeper import RecordKeeper
from .restore.records import Records, records_parent
from .restore.restorer import Restorer
from .session_table import SessionTable
from .sessions import Sessions
from .user_interface import show

#: How long a server that starts waits for kernels to be restored. The others come later.
_SECONDS = 10.0


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """Restore kernels before the first request. ServerApp.initialize calls this."""
    if serverapp.gateway_config.gateway_enabled:
        return  # another server has its kernels and keeps their records
    table = SessionTable(serverapp.session_manager)
    table.watch()
    sessions = Sessions(table, serverapp.log)
    restore_kernels(serverapp.kernel_manager, sessions, serverapp.root_dir, serverapp.io_loop)
    take_environments(serverapp)
    show(serverapp, table)
    import_early(serverapp)


def restore_kernels(manager: Any, sessions: Sessions | None, root: str, io_loop: Any) -> Restorer:
    """Restore the kernels of earlier servers of this directory into `manager`, and keep records."""
    records = Records(records_parent(), manager.log)
    keeper = RecordKeeper(records, str(Path(root).resolve()), server_name(), manager.log)
    restorer = Restorer(manager, sessions, keeper)
    keep(manager, keeper)
    restorer.watch()
    try:
        asyncio.get_running_loop()
    except RuntimeError:

        async def restore() -> None:
            await asyncio.wait([restorer.spawn(restorer.restore_all())], timeout=_SECONDS)

        io_loop.run_sync(restore)
    else:  # a program that already runs the loop initializes it
        restorer.spawn(restorer.restore_all())
    return restorer


def server_name() -> str:
    """Distinguishes a user's servers that a hub has started in one directory."""
    return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
