"""``jupyter remote stop``."""

from __future__ import annotations

import asyncio

from traitlets import Bool

from ...errors import RemoteProvisionerError
from ...hosts.found_kernels import end_kernel
from ...io_thread import io_thread
from ...server.restore.records import note_end, records_parent
from ..command import FAILED, MISUSED, Command, CommandError
from .found import FoundKernel, pick
from .search import SearchCommand


class StopApp(SearchCommand):
    name = "jupyter-remote-stop"
    description = """End kernels on hosts, with everything that they started.

    Usage: jupyter remote stop ID... | --all-unowned

    ID may be shortened. A kernel gets SIGTERM and has 5 seconds to end. If it has already ended,
    the command removes what is left of it.

    Shut down a kernel that is in use in its server. Otherwise the server takes it for a kernel
    that died and starts it again. --force ends it anyway.
    """
    examples = """
    jupyter remote stop 3f2a 77b0
    jupyter remote stop --all-unowned      # all without a running server
    """
    flags = Command.flags | {
        "all-unowned": (
            {"StopApp": {"all_unowned": True}},
            "All kernels without a running server.",
        ),
        "force": ({"StopApp": {"force": True}}, "Also kernels that are in use."),
    }

    all_unowned = Bool(False, help="All without a running server.").tag(config=True)
    force = Bool(False, help="Also kernels that are in use.").tag(config=True)

    async def work(self) -> int:
        words = self.words(None, "ids of kernels")
        if bool(words) == self.all_unowned:
            raise CommandError("give kernel IDs or --all-unowned", MISUSED)
        found, failures = await self.search()
        chosen = [pick(found, word, failures) for word in words]
        in_use = [kernel for kernel in chosen if kernel.owned and not self.force]
        if in_use:
            names = ", ".join(kernel.kernel_id for kernel in in_use)
            raise CommandError(
                f"in use by a running server: {names}\nShut each down in its server, or add --force"
            )
        if self.all_unowned:
            chosen = [kernel for kernel in found if not kernel.owned]
        ended = await asyncio.gather(*(self._stop(kernel) for kernel in chosen))
        if self.all_unowned and not chosen:
            print("no kernels without a running server")
        for failure in failures if self.all_unowned else ():
            self.complain(f"no answer from {failure}")
        return FAILED if not all(ended) or (self.all_unowned and failures) else 0

    async def _stop(self, kernel: FoundKernel) -> bool:
        name = f"{kernel.kernel_id} on {kernel.host.name}"
        try:
            await io_thread().call(end_kernel(kernel.host, kernel.agent, kernel.kernel_id))
        except RemoteProvisionerError as error:
            self.complain(f"{name}: {error.message}")
            return False
        print(f"{name}: ended")
        note_end(records_parent(), kernel.kernel_id, "`jupyter remote stop` ended it")
        return True
