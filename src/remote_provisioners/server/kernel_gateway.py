"""Kernel Gateway finds the kernels of its predecessor again, by one line of its configuration::

    c.KernelGatewayApp.kernel_manager_class = (
        "remote_provisioners.server.kernel_gateway.RestoringKernelManager"
    )

Its clients keep the sessions; what they know a kernel by is its id, which stays.
"""

from __future__ import annotations

import os
from typing import Any

from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager

from .extension import restore_kernels
from .manager_hooks import end_in_order


class RestoringKernelManager(SeedingMappingKernelManager):  # type: ignore[misc]
    """Kernel Gateway's own manager, which keeps records of its kernels."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        restorer = restore_kernels(self, None, os.getcwd(), self.parent.io_loop)
        end_in_order(self.parent, restorer)
