"""All that this process has on hosts: the hosts it is connected to, and where kernels land."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from .address import HostAddress
from .forward import Forward, SocketDirectory
from .host import Host, HostSpec
from .io_thread import IOThread, io_thread
from .kernel import RemoteKernel
from .launch import LaunchRequest
from .placement import LoadBalancer, Placement
from .response import ResponseListener


class Fleet:
    """The hosts of this process. Lives in the I/O thread; there is one, see `fleet()`."""

    def __init__(self) -> None:
        self.hosts: dict[HostAddress, Host] = {}
        self._kernels: set[RemoteKernel] = set()
        self._placement = Placement()
        self._sockets = SocketDirectory()
        self._response = ResponseListener(self._sockets.path)

    def host(self, spec: HostSpec) -> Host:
        """The host at this address; not connected before somebody needs it."""
        host = self.hosts.get(spec.address)
        if host is None:
            host = self.hosts[spec.address] = Host(spec.address)
        host.python = spec.python or host.python
        return host

    async def start(
        self,
        request: LaunchRequest,
        hosts: Sequence[HostSpec],
        policy: LoadBalancer,
        pinned: HostSpec | None,
        grace: float,
    ) -> RemoteKernel:
        """Choose a host and start a kernel there. Raises what RemoteKernel.launch raises."""
        if pinned is not None:
            chosen = pinned
            self._placement.occupy(chosen.name)
        else:
            by_name = {spec.name: spec for spec in hosts}
            chosen = by_name[self._placement.place(list(by_name), policy)]
        kernel = await self._new_kernel(request.kernel_id, chosen, grace)
        try:
            await kernel.launch(request, self._response)
        except BaseException:
            self._close(kernel)
            raise
        return kernel

    async def restart(self, kernel: RemoteKernel, request: LaunchRequest) -> None:
        """Start the kernel again, on its host, with its endpoints."""
        await kernel.launch(request, self._response)

    async def adopt(
        self, kernel_id: str, spec: HostSpec, connection: Mapping[str, Any], grace: float
    ) -> RemoteKernel:
        """Take charge of a kernel that an earlier process left running.

        Raises HostError, KernelLostError.
        """
        self._placement.occupy(spec.name)
        kernel = await self._new_kernel(kernel_id, spec, grace)
        try:
            await kernel.adopt(connection)
        except BaseException:
            self._close(kernel)
            raise
        return kernel

    async def end(self, kernel: RemoteKernel) -> None:
        """The kernel is no longer wanted: end it if it runs, remove all that was its."""
        await kernel.discard()
        self._close(kernel)

    async def close(self) -> None:
        """End what this process still has, disconnect."""
        for kernel in list(self._kernels):
            self._close(kernel)
        await asyncio.gather(*(host.close() for host in self.hosts.values()))
        await self._response.close()
        self._sockets.remove()

    async def _new_kernel(self, kernel_id: str, spec: HostSpec, grace: float) -> RemoteKernel:
        """A kernel on a host where it is counted already, with its endpoints open."""
        host = self.host(spec)
        forward = Forward(self._sockets.path, secrets.token_hex(4), host.open)
        try:
            await forward.listen()
        except BaseException:
            forward.close()
            self._placement.release(spec.name)
            raise
        kernel = RemoteKernel(kernel_id, spec, host, forward, grace)
        self._kernels.add(kernel)
        return kernel

    def _close(self, kernel: RemoteKernel) -> None:
        kernel.host.forget(kernel)
        kernel.forward.close()
        self._kernels.discard(kernel)
        self._placement.release(kernel.spec.name)


_current: tuple[IOThread, Fleet] | None = None


async def fleet() -> Fleet:
    """This process's fleet. To be called in the I/O thread, which closes it when it ends."""
    global _current
    thread = io_thread()
    if _current is None or _current[0] is not thread:
        _current = (thread, Fleet())
        thread.before_close(_current[1].close)
    return _current[1]
