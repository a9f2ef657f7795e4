"""Where a provisioner gets a place for its kernels: what hosts and engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import HostError
from ..hosts.registry import HostRegistry
from ..kernels.remote_kernel import RemoteKernel
from ..options.launch_request import LaunchRequest
from .inventory import HostSpec

#: Called before a host is asked for a kernel, with what `prepare_adoption` needs to find it there.
Recorder = Callable[[Mapping[str, Any]], None]


class Placer(ABC):
    """Chooses where kernels run and starts them there. Called on the application's event loop.

    A provisioner is its options and a placer.
    """

    @abstractmethod
    async def start(self, request: LaunchRequest, record: Recorder) -> RemoteKernel:
        """Choose a place, record it, start a kernel there; return when the kernel listens.

        Raises the errors of :mod:`..errors`; nothing is left running then.
        """

    @abstractmethod
    async def restart(self, kernel: RemoteKernel, request: LaunchRequest, record: Recorder) -> None:
        """Start the kernel again. Its endpoints here stay the same."""

    @abstractmethod
    async def prepare_move(self, name: str) -> None:
        """Have the next restart be on this host. Raises ConfigurationError, HostError."""

    @abstractmethod
    async def prepare_adoption(self, kernel_id: str, info: Mapping[str, Any]) -> RemoteKernel:
        """The kernel that `info` describes, whose host has not been asked yet.

        `info` is what `get_provisioner_info` of another process said.
        """

    @abstractmethod
    async def abandon(self, request: LaunchRequest | None) -> None:
        """Free the place of a kernel whose end the host has not confirmed."""

    def describe(self) -> Mapping[str, Any]:
        """What `prepare_adoption` needs beside host, connection and owner."""
        return {}

    def reason(self, kernel: RemoteKernel | None) -> str:
        """Why the kernel ended, or what its start waits for; "" where there is nothing to say."""
        return kernel.life.reason if kernel is not None else ""


class StartAttempt:
    """One start between its request and its end, in the I/O thread.

    Holds the kernel, so that nothing is lost where the caller is cancelled between two steps.
    """

    def __init__(
        self, request: LaunchRequest, grace: float, existing: RemoteKernel | None = None
    ) -> None:
        """`existing`: the kernel to be restarted elsewhere. Without it a new one is made."""
        self.kernel = existing
        self._is_new = existing is None
        self._request = request
        self._grace = grace
        self._registry: HostRegistry | None = None
        #: Whether a host that is silent is waited for: no other one can be tried.
        self.patient = True

    async def reserve(
        self, registry: HostRegistry, spec: HostSpec, agent: str = ""
    ) -> RemoteKernel:
        """A kernel on that host, counted there from now on; what failed before is closed.

        `agent`: the directory of the agent to start it by, where that is not ours to start.
        """
        self._registry = registry
        if self.kernel is not None and not self._is_new:
            registry.move(self.kernel, spec, agent)
            return self.kernel
        if self.kernel is not None:
            registry.close_kernel(self.kernel)
        self.kernel = await registry.new_kernel(self._request.kernel_id, spec, self._grace, agent)
        return self.kernel

    async def launch(self) -> HostError | None:
        """Start the kernel where it is. Returns the error when its host is to blame."""
        assert self.kernel is not None
        assert self._registry is not None
        self.kernel.patient = self.patient
        try:
            await self._registry.launch(self.kernel, self._request)
        except HostError as error:
            return error
        return None

    async def abandon(self) -> None:
        """Leave nothing of a new kernel, however far its start is."""
        kernel, registry = self.kernel, self._registry
        if not self._is_new or kernel is None or registry is None:
            return
        if kernel.may_run and not kernel.life.over:
            await registry.end(kernel)
        else:
            registry.close_kernel(kernel)
