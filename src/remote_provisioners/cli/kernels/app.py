"""``jupyter remote kernels``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from traitlets import Bool

from ..command import FAILED, Command
from ..configured import engine_kernelspecs
from ..table import Terminal
from .of_engines import recorded
from .search import SearchCommand
from .text import row, table


class KernelsApp(SearchCommand):
    name = "jupyter-remote-kernels"
    description = """List your kernels on hosts, no matter which server started them.

    Usage: jupyter remote kernels [HOST...] [--json]

    Without a HOST, it searches all configured hosts, like `jupyter remote hosts`. It prints the
    kernels of each host as soon as that answers. A narrow terminal gets short IDs, which other
    commands understand, and fewer columns.

    STATE is `in use` while the kernel's server is connected to the host, otherwise `left`. A
    kernel that is left ends after LEASE LEFT unless a server finds it before. IDLE is the time
    since its processes last used more than 2 % of a core. MEMORY is their resident memory. NOTE
    says why the host ended the kernel, or when an engine will end its job.

    Exit codes: 0 all hosts answered, 1 some did not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote kernels
    jupyter remote kernels host1 --json
    """
    flags = Command.flags | {
        "json": ({"KernelsApp": {"json_output": True}}, "Print JSON."),
    }

    json_output = Bool(False, help="Print JSON.").tag(config=True)

    async def work(self) -> int:
        hosts = self.words(None, "hosts")
        if self.json_output:
            found, failures = await self.search(hosts)
            kernels = [kernel.as_json() for kernel in found]
            print(json.dumps({"kernels": kernels, "failures": failures}, indent=2))
            return FAILED if failures else 0
        return await self._print_as_found(hosts)

    async def _print_as_found(self, hosts: Sequence[str]) -> int:
        places = [place.host.name for place in self.places(hosts)]
        places += [record.info["host"] for record in recorded(engine_kernelspecs(self))]
        lines = table(places, Terminal.of_stdout())
        failures: list[str] = []
        none = True
        async for found, failed in self.found(hosts):
            if found and none:
                print(lines.header)
                none = False
            for kernel in found:
                print(lines.row(row(kernel)), flush=True)
            failures += failed
        if none:
            print("no kernels")
        for failure in failures:
            self.complain(failure)
        return FAILED if failures else 0
