"""``jupyter remote logs``."""

from __future__ import annotations

import sys

from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...protocol.messages import GetOutput
from ..command import MISUSED, CommandError
from .found import FoundKernel, pick
from .search import SearchCommand


class LogsApp(SearchCommand):
    name = "jupyter-remote-logs"
    description = """Print what a kernel's process has written to its standard output and error.

    Usage: jupyter remote logs ID

    ID may be the beginning of one. The host keeps the last MiB. What cells print is not in it:
    that goes to notebooks.
    """
    examples = "jupyter remote logs 3f2a"

    async def work(self) -> int:
        words = self.words(1, "the id of one kernel")
        if not words:
            raise CommandError("names no kernel (see jupyter remote kernels)", MISUSED)
        found, failures = await self.search()
        kernel = pick(found, words[0], failures)
        sys.stdout.write(await io_thread().call(_output(kernel)))
        sys.stdout.flush()
        return 0


async def _output(kernel: FoundKernel) -> str:
    host = (await host_registry()).host_with(kernel.host, kernel.agent)
    answer = await host.request(GetOutput(kernel_id=kernel.kernel_id))
    return answer.output
