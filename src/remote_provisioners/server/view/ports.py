"""The ports on which the processes of this server's kernels listen. On the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ...errors import RemoteProvisionerError
from ...hosts.host import Host
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...protocol.agent_requests import GetPorts
from ...protocol.ports import Ports
from ..ports.routes import can_proxy, prepare
from .models import Model

_ANSWER_SECONDS = 6.0
PATH = "remote-provisioners/kernels/{}/port/{}/"


class KernelPorts:
    """`on`: whether users may reach the ports through this server."""

    def __init__(self, manager: Any, base_url: str, on: bool) -> None:
        self._manager = manager
        self._base_url = base_url
        self._on = on and can_proxy()
        self._prepared = False

    async def models(self) -> Model:
        """Ask the connected hosts. A kernel whose host does not answer is left out."""
        kernels = await io_thread().call(_ask())
        models = [self._model(found) for found in kernels if found.kernel_id in self._manager]
        if self._on and not self._prepared and any(model["ports"] for model in models):
            self._prepared = True
            await asyncio.to_thread(prepare)
        return {"kernels": models}

    def _model(self, found: Ports) -> Model:
        ports = [
            {
                "number": port.number,
                "program": port.program,
                "pid": port.pid,
                "chosen": port.chosen,
                "url": self._url(found.kernel_id, port.number),
            }
            for port in found.ports
        ]
        return {"id": found.kernel_id, "ports": ports}

    def _url(self, kernel_id: str, number: int) -> str | None:
        return self._base_url + PATH.format(kernel_id, number) if self._on else None


async def _ask() -> Sequence[Ports]:
    kernels: dict[Host, list[str]] = {}
    for kernel in (await host_registry()).kernels:
        if kernel.host.connected and kernel.pid is not None and not kernel.life.over:
            kernels.setdefault(kernel.host, []).append(kernel.kernel_id)
    answers = await asyncio.gather(*(_of(host, ids) for host, ids in kernels.items()))
    return [ports for answer in answers for ports in answer]


async def _of(host: Host, kernel_ids: Sequence[str]) -> Sequence[Ports]:
    try:
        asked = host.request(GetPorts(kernel_ids=kernel_ids))
        return (await asyncio.wait_for(asked, _ANSWER_SECONDS)).kernels
    except (RemoteProvisionerError, asyncio.TimeoutError, TimeoutError):
        return ()  # away, or an agent of an earlier version
