"""Tells the users of a notebook, in its next kernel, why the earlier kernel has ended."""

from __future__ import annotations

from typing import Any

from ..hooks.kernel import detach, is_dead, kernel_of
from ..session_table import OfKernels
from .record import Record


class Notices:
    """The texts that wait for the next kernel of a notebook. Lives on the server's event loop."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        #: By the path of a notebook.
        self._texts: dict[str, str] = {}

    def ended(self, record: Record, text: str) -> None:
        """A kernel has ended. Its notebooks will get new kernels."""
        self._texts.update((s["path"], text) for s in record.sessions if s.get("path"))

    async def give(self, of_kernels: OfKernels) -> None:
        """Show each text in the first cell of its notebook's new kernel."""
        for kernel_id, sessions in of_kernels.items() if self._texts else ():
            for session in sessions:
                await self._give(session["path"], kernel_id)

    async def _give(self, path: str, kernel_id: str) -> None:
        kernel = kernel_of(self._manager, kernel_id)
        if path not in self._texts or is_dead(self._manager, kernel_id):
            return
        provisioner: Any = getattr(kernel, "provisioner", None)
        text = self._texts.pop(path)
        if hasattr(provisioner, "announce"):
            await provisioner.announce(f"This is a new kernel. {text}")

    async def replaced(self, path: str, kernel_id: str) -> bool:
        """A user opens a notebook again. If its kernel is dead, the notebook gets a new one."""
        kernel = kernel_of(self._manager, kernel_id)
        if kernel is None or not is_dead(self._manager, kernel_id):
            return False
        self._texts[path] = kernel.reason
        provisioner = kernel.provisioner
        if getattr(provisioner, "adoption_pending", False):  # it may be alive, so its record stays
            await detach(self._manager, kernel_id, kernel)
        else:
            await self._manager.shutdown_kernel(kernel_id, now=True)
        return True
