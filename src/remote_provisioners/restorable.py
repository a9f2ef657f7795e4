"""A kernel that one application leaves and the next one adopts: what servers ask of a provisioner.

jupyter_client's contract does not have these methods. They are called on the application's loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from . import forks
from .hosts.registry import let_go
from .io_thread import in_io_thread
from .kernels.announcement import announce
from .kernels.remote_kernel import RemoteKernel
from .placement.placer import Placer


class Restorable(KernelProvisionerBase):
    """Holds the provisioner's kernel."""

    placer: Placer

    def __init__(self, **kwargs: Any) -> None:
        self._kernel: RemoteKernel | None = None
        #: Whether `wait` has returned the kernel's exit code.
        self._waited = False
        #: A text for the next cell.
        self._announcement = ""
        super().__init__(**kwargs)
        forks.watch(self)

    def after_fork(self) -> None:
        """Leave the kernel to the parent."""
        self._kernel = None

    async def prepare_adoption(self, info: Mapping[str, Any]) -> RemoteKernel:
        """Represent the kernel that `info` describes. `adopt` is the first to ask its host."""
        self.username = info.get("launch", {}).get("env", {}).get("KERNEL_USERNAME", "")
        self._kernel = await self.placer.prepare_adoption(self.kernel_id, info)
        self._waited = False
        return self._kernel

    async def adopt(self) -> None:
        """Become the kernel's owner, or let go of it and raise KernelLostError or HostError."""
        kernel = self._kernel
        assert kernel is not None
        try:
            await in_io_thread(kernel.adopt())
        except BaseException:
            await self.let_go()
            raise

    async def adopt_when_reachable(self) -> None:
        """Become the owner of the kernel once its host can be reached, or give it up.

        Raises KernelLostError. What became of it is in `poll` and `reason`.
        """
        if self._kernel is not None:
            await in_io_thread(self._kernel.adopt_when_reachable())

    @property
    def kernel(self) -> RemoteKernel | None:
        """None before the first start, and when nothing of the kernel is left here."""
        return self._kernel

    @property
    def adoption_pending(self) -> bool:
        """Whether the kernel still belongs to another process, as far as its host has told."""
        return self._kernel is not None and self._kernel.life.adoption_pending

    @property
    def reason(self) -> str:
        """Why the kernel ended, or what its start waits for; "" while it runs."""
        return self.placer.reason(self._kernel)

    @property
    def place(self) -> str:
        """The kernel's host; "" without a kernel."""
        return self._kernel.spec.name if self._kernel is not None else ""

    @property
    def left_on_host(self) -> frozenset[str]:
        """Kernels of this user there whose servers were away when we connected."""
        return self._kernel.host.left if self._kernel is not None else frozenset()

    async def replay_output(self) -> None:
        """Send the output that no client has received to the next client."""
        if self._kernel is not None:  # the manager's own client comes first
            await in_io_thread(self._kernel.client_sockets.replay_to_second())

    async def announce(self, text: str) -> None:
        """Show a text in the next cell that the kernel runs, now or after its start."""
        self._announcement = text
        await self._announce()

    async def _announce(self) -> None:
        if self._kernel is not None and self._announcement:
            text, self._announcement = self._announcement, ""
            await in_io_thread(announce(self._kernel, text))

    async def let_go(self) -> None:
        """Leave the kernel running, for another process to adopt."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            await in_io_thread(let_go(kernel))
