"""``jupyter remote logs``."""

from __future__ import annotations

import asyncio
import sys

from traitlets import Bool

from ...errors import KernelLostError
from ...hosts.found_kernels import kernels_on, output_of
from ...io_thread import io_thread
from ..command import MISUSED, Command, CommandError
from .found import FoundKernel, pick
from .search import SearchCommand

_LOOK_SECONDS = 0.5
#: Characters by which what was printed already is found in what is kept.
_OVERLAP = 4096


class LogsApp(SearchCommand):
    name = "jupyter-remote-logs"
    description = """Print what a kernel's process wrote to its standard output and error.

    Usage: jupyter remote logs ID [-f]

    With -f, the command goes on until the kernel ends or you press Ctrl-C.

    ID may be shortened. The host keeps the last half MiB, or more. The output of cells is not part
    of it, because it goes to the notebooks.
    """
    examples = """
    jupyter remote logs 3f2a
    jupyter remote logs -f 3f2a
    """
    flags = Command.flags | {
        "f": ({"LogsApp": {"follow": True}}, "Go on until the kernel ends."),
        "follow": ({"LogsApp": {"follow": True}}, "The same."),
    }

    follow = Bool(False, help="Go on until the kernel ends.").tag(config=True)

    async def work(self) -> int:
        words = self.words(1, "the id of one kernel")
        if not words:
            raise CommandError("the kernel's ID is missing (see jupyter remote kernels)", MISUSED)
        found, failures = await self.search()
        kernel = pick(found, words[0], failures)
        before, read, older = "", 0, False
        while True:
            # Asked first: what it wrote before its end is not missed.
            over = not self.follow or (older and not await self._runs(kernel))
            try:
                output = output_of(kernel.host, kernel.agent, kernel.kernel_id, read)
                answer = await io_thread().call(output)
            except KernelLostError:  # it was shut down meanwhile
                if not before:
                    raise
                return 0
            older = answer.end < 0
            sys.stdout.write(news(before, answer.output) if older else answer.output)
            sys.stdout.flush()
            if over or answer.ended:
                return 0
            before, read = answer.output or before, max(answer.end, 0)
            await asyncio.sleep(_LOOK_SECONDS)

    @staticmethod
    async def _runs(kernel: FoundKernel) -> bool:
        """Ask an older agent, whose output does not say it."""
        for _, found in await io_thread().call(kernels_on(kernel.host)):
            if found.kernel_id == kernel.kernel_id:
                return found.exit_code is None
        return False


def news(before: str, now: str) -> str:
    """What was written since `before`, from an older agent, which sends all that it keeps."""
    if now.startswith(before):
        return now[len(before) :]
    end = before[-_OVERLAP:]
    found = now.rfind(end)
    return now[found + len(end) :] if found >= 0 else now
