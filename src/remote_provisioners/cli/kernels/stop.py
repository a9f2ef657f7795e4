"""``jupyter remote stop``."""

from __future__ import annotations

import asyncio

from traitlets import Bool

from ...errors import RemoteProvisionerError
from ...hosts.found_kernels import end_kernel
from ...io_thread import io_thread
from ...server.records import note_end, records_parent
from ..command import FAILED, MISUSED, Command, CommandError
from .found import FoundKernel, pick
from .search import SearchCommand


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
            await io_thread().call(end_kernel(kernel.host, kernel.agent, kernel.kernel_id))
        except RemoteProvisionerError as error:
            print(f"{name}: {error.message}")
            return False
        print(f"{name}: ended")
        note_end(records_parent(), kernel.kernel_id, "`jupyter remote stop` ended it")
        return True
