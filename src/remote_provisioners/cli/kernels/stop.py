"""``jupyter remote stop``."""

from __future__ import annotations

import asyncio
import signal

from traitlets import Bool

from ...errors import RemoteProvisionerError
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...protocol.messages import Forget, GetStatus, Signal
from ...server.records import note_end, records_parent
from ..command import FAILED, MISUSED, Command, CommandError
from .found import FoundKernel, pick
from .search import SearchCommand

_TERMINATE_SECONDS = 5.0
_LOOK_SECONDS = 0.1


class StopApp(SearchCommand):
    name = "jupyter-remote-stop"
    description = """End kernels on hosts, and all that they started.

    Usage: jupyter remote stop ID... | --all-unowned

    ID may be the beginning of one. A kernel has 5 seconds from SIGTERM to its end. What is kept
    of one that has ended already is removed.

    A kernel that is in use is to be shut down in the server that it belongs to, which would start
    it again as one that died: --force ends it all the same.
    """
    examples = """
    jupyter remote stop 3f2a 77b0
    jupyter remote stop --all-unowned      # those that no running server has
    """
    flags = Command.flags | {
        "all-unowned": ({"StopApp": {"all_unowned": True}}, "All that no running server has."),
        "force": ({"StopApp": {"force": True}}, "Also those that are in use."),
    }

    all_unowned = Bool(False, help="All that no running server has.").tag(config=True)
    force = Bool(False, help="Also those that are in use.").tag(config=True)

    async def work(self) -> int:
        words = self.words(None, "ids of kernels")
        if bool(words) == self.all_unowned:
            raise CommandError("takes ids of kernels, or --all-unowned", MISUSED)
        found, failures = await self.search()
        chosen = [pick(found, word, failures) for word in words]
        in_use = [kernel for kernel in chosen if kernel.owned and not self.force]
        if in_use:
            names = ", ".join(kernel.kernel_id for kernel in in_use)
            raise CommandError(f"in use by a running server: {names}; shut down there, or --force")
        if self.all_unowned:
            chosen = [kernel for kernel in found if not kernel.owned]
        ended = await asyncio.gather(*(self._stop(kernel) for kernel in chosen))
        for failure in failures if self.all_unowned else ():
            print(f"not asked: {failure}")
        return FAILED if not all(ended) or (self.all_unowned and failures) else 0

    async def _stop(self, kernel: FoundKernel) -> bool:
        name = f"{kernel.kernel_id} on {kernel.host.name}"
        try:
            await io_thread().call(_end(kernel))
        except RemoteProvisionerError as error:
            print(f"{name}: {error.message}")
            return False
        print(f"{name}: ended")
        note_end(records_parent(), kernel.kernel_id, "`jupyter remote stop` ended it")
        return True


async def _end(kernel: FoundKernel) -> None:
    """End it politely, then firmly. Raises HostError."""
    host = (await host_registry()).host_with(kernel.host, kernel.agent)
    told = await host.request(Signal(kernel_id=kernel.kernel_id, signum=signal.SIGTERM))
    deadline = asyncio.get_running_loop().time() + _TERMINATE_SECONDS
    while told.delivered and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
        status = await host.request(GetStatus())
        running = {k.kernel_id for k in status.kernels if k.exit_code is None}
        if kernel.kernel_id not in running:
            break
    await host.request(Forget(kernel_id=kernel.kernel_id))
