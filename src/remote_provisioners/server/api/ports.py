"""Ports on which the processes of kernels listen."""

from __future__ import annotations

from ..view.ports import KernelPorts
from .base import RemoteHandler, answers

PORTS = "remote_provisioners_ports"


class PortsHandler(RemoteHandler):
    @answers
    async def get(self) -> None:
        """The ports of all kernels, after asking the connected hosts."""
        ports: KernelPorts = self.settings[PORTS]
        await self.answer(await ports.models())
