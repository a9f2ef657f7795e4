"""Import slow packages soon after the server's start, before a user waits for them."""

from __future__ import annotations

import contextlib
import importlib
import threading
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from ..options.installed_specs import installed_specs

#: Seconds after the server's start: the start itself and the first page must not wait.
_AFTER_SECONDS = 5.0


def import_early(serverapp: Any) -> None:
    """Import in a thread what the installed kernelspecs need. The extension calls this."""
    manager = serverapp.kernel_spec_manager

    def begin() -> None:
        threading.Thread(target=import_for, args=[manager], daemon=True).start()

    serverapp.io_loop.call_later(_AFTER_SECONDS, begin)


def import_for(manager: KernelSpecManager) -> None:
    """Import the slow packages of the installed kernelspecs' provisioners."""
    for provisioner in {spec.provisioner_class for spec in installed_specs(manager)}:
        for name in provisioner.slow_imports:
            with contextlib.suppress(ImportError):  # the start of a kernel reports it
                importlib.import_module(name)
