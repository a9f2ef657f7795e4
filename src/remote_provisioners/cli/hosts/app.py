"""``jupyter remote hosts``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from traitlets import Bool

from ...io_thread import close_io_thread, io_thread
from ..command import FAILED, Command, Text
from ..configured import ConfiguredHost, configured_hosts
from ..seconds import positive_seconds
from .status import HostStatus
from .survey import Survey
from .text import summary, table

_WATCH_SECONDS = 2
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


class HostsApp(Command):
    name = "jupyter-remote-hosts"
    description = """List hosts: which are up, how busy they are, what runs there.

    Usage: jupyter remote hosts [HOST...] [--json] [--watch[=SECONDS]]

    Without a HOST: those that are configured, by the installed kernelspecs, the configuration
    file or RP_REMOTE_HOSTS. They are asked at once; who does not answer is waited for 6 seconds.

    KERNELS are yours, of those of all users. LOAD is the mean of the running processes over a
    minute, of the cores. MEMORY is what is available. GPUS are those that kernels have, of the
    configured ones. CONNECTED IN is how long it took to log in and to find the agent, or to
    start it where none was; such a one ends when this command does.

    A host that is `down` does not answer; one that is `unusable` answers and
    cannot be used; one that is `misconfigured` is not asked.

    Exit code: 0 all hosts are up, 1 some are not, 2 the command line cannot be understood.
    """
    examples = """
    jupyter remote hosts
    jupyter remote hosts host1 me@host2:2222 --json
    jupyter remote hosts --watch=10          # until Ctrl-C
    """
    aliases = Command.aliases | {"watch": "HostsApp.watch"}
    flags = Command.flags | {
        "json": ({"HostsApp": {"json_output": True}}, "Print JSON; a line a look with --watch."),
    }
    reads_hosting_config = True

    watch = Text(
        help=f"Look again every so many seconds ({_WATCH_SECONDS} by default), until Ctrl-C."
    ).tag(config=True)
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def initialize(self, argv: Any = None) -> None:
        # An option with or without a value: argparse would take a host behind it for the value.
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
        self, places: Iterable[ConfiguredHost], interval: float | None, seen: list[HostStatus]
    ) -> None:
        """Once, or every `interval` seconds; `seen` is what was seen last."""
        try:
            survey = await io_thread().call(_survey(places, interval is not None))
            while True:
                began = time.monotonic()
                seen[:] = await io_thread().call(survey.look())
                self._show(seen, interval is not None)
                if interval is None:
                    return
                await asyncio.sleep(max(0.0, began + interval - time.monotonic()))
        finally:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.to_thread(close_io_thread)  # tells the agents that we leave

    def _show(self, statuses: Sequence[HostStatus], again: bool) -> None:
        if self.json_output:
            found = {"hosts": [status.as_json() for status in statuses]}
            print(json.dumps(found, indent=None if again else 2), flush=True)
            return
        lines = table(statuses)
        if again:
            lines = [summary(statuses), *lines]
            if sys.stdout.isatty():
                width = shutil.get_terminal_size().columns
                lines = [_CLEAR + lines[0][:width], *(line[:width] for line in lines[1:])]
            else:
                lines.append("")
        print("\n".join(lines), flush=True)


async def _survey(places: Iterable[ConfiguredHost], again: bool) -> Survey:
    """A survey, made in the I/O thread, where it lives."""
    return Survey(places, again)


def _allow_many_connections() -> None:
    """A descriptor a host: as many as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
