"""The interface through which a provisioner places kernels, for hosts and engines alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import HostError
from ..hosts.registry import HostRegistry
from ..kernels.remote_kernel import RemoteKernel
from ..options.launch_request import LaunchRequest
from .inventory import HostSpec

#: Called before a host gets a start request, with what `prepare_adoption` needs later.
Recorder = Callable[[Mapping[str, Any]], None]


class Placer(ABC):
    """Chooses where kernels run and starts them. Called on the application's event loop.

    A provisioner consists of its options and a placer.
    """

    @abstractmethod
    async def start(self, request: LaunchRequest, record: Recorder) -> RemoteKernel:
        """Choose a place, record it and start a kernel. Returns when the kernel listens.

        Raises the errors of :mod:`..errors` and then leaves nothing running.
        """

    @abstractmethod
    async def restart(self, kernel: RemoteKernel, request: LaunchRequest, record: Recorder) -> None:
        """Start the kernel again. Its endpoints on this machine stay the same."""

    @abstractmethod
    async def prepare_move(self, name: str) -> None:
        """Make the next restart use this host. Raises ConfigurationError, HostError."""

    @abstractmethod
    async def prepare_adoption(self, kernel_id: str, info: Mapping[str, Any]) -> RemoteKernel:
        """The kernel that `info` describes, before its host is asked.

        `info` comes from `get_provisioner_info` of another process.
        """

    #: Whether the next restart moves the kernel to another host.
    moves = False

    #: Whether a place outlives its kernel, and `abandon` has to free it after each kernel.
    place_stays = False

    @abstractmethod
    async def abandon(self, request: LaunchRequest | None) -> bool:
        """Free the place of a kernel whose host has not confirmed its end, or see `place_stays`.

        Returns whether nothing can run there any more.
        """

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the place ends with the kernel. None: no end is known."""
        return None

    def explained(self, kernel: RemoteKernel, manager: Any) -> bool:
        """Whether it is known why the kernel ended, as far as that can be found out.

        Nobody asks why if the manager was ending it.
        """
        return True

    def describe(self) -> Mapping[str, Any]:
        """What `prepare_adoption` needs besides host, connection and owner."""
        return {}

    def reason(self, kernel: RemoteKernel | None) -> str:
        """Why the kernel ended, or what its start waits for; "" if neither applies."""
        return kernel.life.reason if kernel is not None else ""


class StartAttempt:
    """One start, from the request to its end. Lives in the I/O thread.

    It holds the kernel, so that nothing is lost if the caller is cancelled between two steps.
    """

    def __init__(
        self, request: LaunchRequest, grace: float, existing: RemoteKernel | None = None
    ) -> None:
        """`existing`: the kernel to restart elsewhere. Without it, a new one is created."""
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
        """A kernel on that host, counted there from now on. Closes the one that failed before.

        `agent`: the directory of the agent to use, if it is not an agent of ours.
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
        """Start the kernel on its host. Returns the error if the host is to blame."""
        assert self.kernel is not None
        assert self._registry is not None
        self.kernel.patient = self.patient
        try:
            await self._registry.launch(self.kernel, self._request)
        except HostError as error:
            return error
        return None

    async def abandon(self) -> None:
        """Remove a new kernel, however far its start is."""
        kernel, registry = self.kernel, self._registry
        if not self._is_new or kernel is None or registry is None:
            return
        if kernel.may_run and not kernel.life.over:
            await registry.end(kernel)
        else:
            registry.close_kernel(kernel)
