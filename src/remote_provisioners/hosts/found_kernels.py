"""List, read and end the kernels on a host, no matter which server started them. I/O thread."""

from __future__ import annotations

import asyncio
import signal

from ..placement.inventory import HostSpec
from ..protocol.agent_requests import Forget, GetOutput, GetStatus, Signal
from ..protocol.answers import KernelStatus, Output
from .host import Host
from .registry import host_registry

_TERMINATE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


async def kernels_on(spec: HostSpec) -> list[tuple[str, KernelStatus]]:
    """Every kernel of this user there, as its agent describes it, with the agent's directory
    ("" for an agent of this version). Raises HostError.
    """
    registry = await host_registry()
    status = await registry.host(spec).request(GetStatus())
    found = [("", kernel) for kernel in status.kernels]
    for directory in status.agent.others:
        async with registry.visit(spec, directory) as host:
            other = await host.request(GetStatus())
        found += [(directory, kernel) for kernel in other.kernels]
    return found


async def output_of(spec: HostSpec, agent: str, kernel_id: str, after: int = 0) -> Output:
    """The output of a kernel's process after a position. Raises HostError, KernelLostError."""
    async with (await host_registry()).visit(spec, agent) as host:
        return await host.request(GetOutput(kernel_id=kernel_id, after=after))


async def end_kernel(spec: HostSpec, agent: str, kernel_id: str) -> None:
    """End a kernel with SIGTERM, then SIGKILL. Raises HostError."""
    async with (await host_registry()).visit(spec, agent) as host:
        await _end(host, kernel_id)


async def _end(host: Host, kernel_id: str) -> None:
    told = await host.request(Signal(kernel_id=kernel_id, signum=signal.SIGTERM))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _TERMINATE_SECONDS
    while told.delivered and loop.time() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
        status = await host.request(GetStatus())
        if kernel_id not in {k.kernel_id for k in status.kernels if k.exit_code is None}:
            break
    await host.request(Forget(kernel_id=kernel_id))
