"""Lets Kernel Gateway restore the kernels of its predecessor, with one line of configuration::

    c.KernelGatewayApp.kernel_manager_class = (
        "remote_provisioners.server.kernel_gateway.RestoringKernelManager"
    )

Its clients keep the sessions. They know a kernel by its id, which stays the same.
"""

from __future__ import annotations

import os
from typing import Any

from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager

from .extension import restore_kernels
from .hooks.kernel_manager import end_in_order


class RestoringKernelManager(SeedingMappingKernelManager):  # type: ignore[misc]
    """Kernel Gateway's own manager, with records of its kernels."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        restorer = restore_kernels(self, None, os.getcwd(), self.parent.io_loop)
        end_in_order(self.parent, restorer)
