"""``jupyter remote hosts``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from traitlets import Bool

from ...io_thread import io_thread
from ..command import FAILED, Command, Text, using_hosts
from ..configured import ConfiguredHost, configured_hosts
from ..seconds import positive_seconds
from ..table import Terminal
from ..waiting import Waiting
from .status import HostStatus
from .survey import Survey, as_they_answer, merged
from .text import row, summary, table

_WATCH_SECONDS = 2
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


class HostsApp(Command):
    name = "jupyter-remote-hosts"
    description = """List the hosts, their state, their load and what runs on them.

    Usage: jupyter remote hosts [HOST...] [--json] [--watch[=SECONDS]]

    Without a HOST, it lists all hosts in the installed kernelspecs, the configuration file or
    RP_REMOTE_HOSTS. It asks all of them at the same time, prints each as it answers, and gives up
    on a host that takes too long. A narrow terminal gets fewer columns.

    KERNELS shows how many of all users' kernels are yours. LOAD is the mean number of running
    processes over a minute, of the number of cores. MEMORY is the available memory. GPUS shows how
    many of the configured GPUs kernels use. CONNECTED IN is the time to log in and to find or
    start the agent. An agent that this command starts ends with it.

    A host that is `down` does not answer. A host that is `unusable` answers but cannot run
    kernels. A host that is `misconfigured` has an invalid configuration and is not asked.

    Exit codes: 0 all hosts are up, 1 some are not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote hosts
    jupyter remote hosts host1 me@host2:2222 --json
    jupyter remote hosts --watch=10          # until Ctrl-C
    """
    aliases = Command.aliases | {"watch": "HostsApp.watch"}
    flags = Command.flags | {
        "json": (
            {"HostsApp": {"json_output": True}},
            "Print JSON; with --watch, one line for each look.",
        ),
    }
    reads_hosting_config = True

    watch = Text(
        help=f"The seconds between two looks (default: {_WATCH_SECONDS}). Ctrl-C ends the command."
    ).tag(config=True)
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def initialize(self, argv: Any = None) -> None:
        # The value is optional. argparse would read a host that follows as the value.
        bare = {"--watch": f"--watch={_WATCH_SECONDS}"}
        words = sys.argv[1:] if argv is None else argv
        super().initialize([bare.get(word, word) for word in words])

    def run(self) -> int:
        places = configured_hosts(self, self.words(None, "hosts"))
        interval = positive_seconds("watch", self.watch) if self.watch else None
        _allow_many_connections()
        seen: list[HostStatus] = []
        try:
            asyncio.run(self._look(places, interval, seen))
        except KeyboardInterrupt:
            if interval is None or not seen:
                raise
        return 0 if all(status.up for status in seen) else FAILED

    async def _look(
        self, places: Sequence[ConfiguredHost], interval: float | None, seen: list[HostStatus]
    ) -> None:
        """Look once, or every `interval` seconds. `seen` gets the latest result."""
        async with using_hosts():
            if interval is not None:
                await self._watch(places, interval, seen)
            elif self.json_output:
                survey = await io_thread().call(_survey(places, again=False))
                seen[:] = await io_thread().call(survey.look())
                print(json.dumps(_as_json(seen), indent=2), flush=True)
            else:
                await self._print_as_they_answer(places, seen)

    async def _print_as_they_answer(
        self, places: Sequence[ConfiguredHost], seen: list[HostStatus]
    ) -> None:
        places = merged(places)
        lines = table(_names(places), Terminal.of_stdout())
        print(lines.header, flush=True)
        async with Waiting(_names(places)) as waiting:
            async for status in as_they_answer(places):
                seen.append(status)
                waiting.answered(status.host)
                print(lines.row(row(status)), flush=True)

    async def _watch(
        self, places: Sequence[ConfiguredHost], interval: float, seen: list[HostStatus]
    ) -> None:
        survey = await io_thread().call(_survey(places, again=True))
        while True:
            began = time.monotonic()
            seen[:] = await io_thread().call(survey.look())
            self._show(seen, _names(places))
            await asyncio.sleep(max(0.0, began + interval - time.monotonic()))

    def _show(self, statuses: Sequence[HostStatus], names: Iterable[str]) -> None:
        if self.json_output:
            print(json.dumps(_as_json(statuses)), flush=True)
            return
        terminal = Terminal.of_stdout()  # its size may have changed
        lines = table(names, terminal)
        text = [summary(statuses)[: terminal.width], lines.header]
        text += [lines.row(row(status)) for status in statuses]
        if terminal.width is not None:
            text[0] = _CLEAR + text[0]
        else:
            text.append("")
        print("\n".join(text), flush=True)


def _as_json(statuses: Iterable[HostStatus]) -> dict[str, Any]:
    return {"hosts": [status.as_json() for status in statuses]}


def _names(places: Iterable[ConfiguredHost]) -> list[str]:
    return [place.host.name for place in places]


async def _survey(places: Iterable[ConfiguredHost], again: bool) -> Survey:
    """Make a survey in the I/O thread, where it has to live."""
    return Survey(places, again)


def _allow_many_connections() -> None:
    """Raise the limit of descriptors to the most that is allowed; each host needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
