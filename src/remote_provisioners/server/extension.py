"""The jupyter_server extension: a server finds the kernels of its predecessor again.

Enabled where the package is installed (etc/jupyter/jupyter_server_config.d).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir

from .records import Records, keep
from .restore import Restorer
from .sessions import Sessions

#: Of something that reads files and opens sockets of this machine.
_SECONDS = 10.0


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """By ServerApp.initialize, before anybody is answered: who asks finds the kernels there."""
    if serverapp.gateway_config.gateway_enabled:
        return  # its kernels are another server's, which keeps them
    records = Records(Path(jupyter_data_dir()) / "remote-provisioners", serverapp.log)
    sessions = Sessions(serverapp.session_manager, serverapp.log)
    home = Restorer(
        serverapp.kernel_manager, sessions, records, str(Path(serverapp.root_dir).resolve())
    )
    keep(serverapp.kernel_manager, home)
    home.watch()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        serverapp.io_loop.run_sync(home.expect_all, timeout=_SECONDS)
    else:  # initialized by a program that runs the loop already
        home.spawn(home.expect_all())
