"""``jupyter remote logs``."""

from __future__ import annotations

import sys

from ...hosts.found_kernels import output_of
from ...io_thread import io_thread
from ..command import MISUSED, CommandError
from .found import pick
from .search import SearchCommand


class LogsApp(SearchCommand):
    name = "jupyter-remote-logs"
    description = """Print what a kernel's process wrote to its standard output and error.

    Usage: jupyter remote logs ID

    ID may be shortened. The host keeps the last MiB. The output of cells is not part of it; that
    goes to the notebooks.
    """
    examples = "jupyter remote logs 3f2a"

    async def work(self) -> int:
        words = self.words(1, "the id of one kernel")
        if not words:
            raise CommandError("the kernel's ID is missing (see jupyter remote kernels)", MISUSED)
        found, failures = await self.search()
        kernel = pick(found, words[0], failures)
        output = output_of(kernel.host, kernel.agent, kernel.kernel_id)
        sys.stdout.write(await io_thread().call(output))
        sys.stdout.flush()
        return 0
