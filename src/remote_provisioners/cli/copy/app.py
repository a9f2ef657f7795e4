"""``jupyter remote cp``."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from traitlets import Bool

from ...files.copying import Copying, Progress
from ...files.pool import file_pool
from ...files.sides import HostSide, LocalSide, Side
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...placement.inventory import HostSpec
from ..command import FAILED, MISUSED, Command, CommandError, using_hosts
from ..configured import configured_hosts
from ..waiting import StatusLine
from .words import Word, size, word

_DRAW_SECONDS = 0.2
_BAR = 20


class CopyApp(Command):
    name = "jupyter-remote-cp"
    description = """Copy files between this machine and hosts, as scp does.

    Usage: jupyter remote cp [-r] SOURCE... DESTINATION

    Write a host's path as HOST:PATH. It is relative to your home directory there. The copy keeps
    permissions and times.

    If a copy is interrupted, give the same command again: the copy continues. It skips files that
    are there already with the same size and time.

    Exit codes: 0 everything was copied, 1 something was not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote cp data.csv gpu1:project/
    jupyter remote cp -r gpu1:project/results .
    jupyter remote cp gpu1:/scratch/model.bin gpu2:/scratch/
    """
    flags = Command.flags | {
        "r": ({"CopyApp": {"recursive": True}}, "Copy directories with all that is in them."),
        "recursive": ({"CopyApp": {"recursive": True}}, "The same."),
        "q": ({"CopyApp": {"quiet": True}}, "Show no progress."),
        "quiet": ({"CopyApp": {"quiet": True}}, "The same."),
    }
    reads_hosting_config = True

    recursive = Bool(False, help="Copy directories with all that is in them.").tag(config=True)
    quiet = Bool(False, help="Show no progress.").tag(config=True)

    def run(self) -> int:
        return asyncio.run(self._run())

    async def _run(self) -> int:
        words = self.words(None, "")
        if len(words) < 2:
            raise CommandError("a SOURCE and a DESTINATION are needed", MISUSED)
        *sources, destination = map(word, words)
        if not any(one.host for one in (*sources, destination)):
            raise CommandError("no word names a host; write a host's path as HOST:PATH", MISUSED)
        specs = {one.host: self._spec(one.host) for one in (*sources, destination) if one.host}
        async with using_hosts():
            return await io_thread().call(self._copy(sources, destination, specs))

    def _spec(self, name: str) -> HostSpec:
        place = configured_hosts(self, [name])[0]
        if place.error:
            raise CommandError(f"{name}: {place.error}")
        return place.host

    async def _copy(
        self, sources: list[Word], destination: Word, specs: dict[str, HostSpec]
    ) -> int:
        there, home = await _side(destination, specs)
        to = destination.absolute(home)
        inside = destination.directory or len(sources) > 1
        bar = Bar(self.quiet)
        failed = False

        def trouble(text: str) -> None:
            nonlocal failed
            failed = True
            bar.clear()
            self.complain(text)

        try:
            for source in sources:
                here, its_home = await _side(source, specs)
                copying = Copying(here, there, bar.draw, trouble)
                copying.progress = bar.progress
                await copying.copy(source.absolute(its_home), to, self.recursive, inside)
        finally:
            bar.end()
        return FAILED if failed else 0


async def _side(of: Word, specs: dict[str, HostSpec]) -> tuple[Side, str]:
    """The side of a word, and the home directory there. Raises HostError."""
    if not of.host:
        return LocalSide(), ""
    host = (await host_registry()).host(specs[of.host])
    home = (await host.link()).agent.home
    return HostSide(of.host, (await file_pool()).of(host, ["/"])), home


class Bar:
    """Draws the progress in one line, if stderr is a terminal."""

    def __init__(self, quiet: bool) -> None:
        self.progress = Progress()
        self._line = StatusLine(quiet)
        self._began = time.monotonic()
        self._drawn = 0.0

    def draw(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._line.shown and now - self._drawn >= _DRAW_SECONDS:
            self._drawn = now
            self._write(progress, now)

    def _write(self, progress: Progress, now: float) -> None:
        part = progress.done / progress.total if progress.total else 1.0
        speed = (progress.done - progress.earlier) / max(now - self._began, 0.001)
        left = (progress.total - progress.done) / speed if speed else 0
        filled = round(_BAR * min(part, 1.0))
        text = (
            f"[{'#' * filled}{'.' * (_BAR - filled)}] {100 * min(part, 1.0):3.0f} % "
            f"{size(progress.done)} of {size(progress.total)}, {size(speed)}/s, "
            f"{int(left) // 60}:{int(left) % 60:02d} left, {_printable(progress.name)}"
        )
        self._line.draw(text)

    def clear(self) -> None:
        self._line.clear()

    def end(self) -> None:
        if self._line.shown:
            self._write(self.progress, time.monotonic())
            print(file=sys.stderr)


def _printable(name: str) -> str:
    """A name may contain control characters, and bytes that are no text."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
