"""What a command waits for, in one line on stderr. Nothing if stderr is no terminal."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType

#: A command that takes less time shows nothing.
_PATIENCE_SECONDS = 0.5
_DRAW_SECONDS = 0.2


class StatusLine:
    """A line at the end of the output, which is overwritten until it is cleared."""

    def __init__(self, quiet: bool = False) -> None:
        self.shown = sys.stderr.isatty() and not quiet
        self._drawn = False

    @property
    def width(self) -> int:
        return shutil.get_terminal_size().columns - 1

    def draw(self, text: str) -> None:
        if self.shown:
            print(f"\r{text[: self.width]:<{self.width}}", end="", file=sys.stderr, flush=True)
            self._drawn = True

    def clear(self) -> None:
        """Make room for other output."""
        if self._drawn:
            print(f"\r{'':<{self.width}}\r", end="", file=sys.stderr, flush=True)
            self._drawn = False


class Waiting:
    """Shows which hosts have not answered yet. An asynchronous context manager."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._left = list(dict.fromkeys(hosts))
        self._total = len(self._left)
        self._line = StatusLine()
        self._began = time.monotonic()
        self._drawing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Waiting:
        if self._line.shown:
            self._drawing = asyncio.ensure_future(self._draw())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
        self._line.clear()

    def answered(self, host: str) -> None:
        """Call this before you print the host's answer."""
        with contextlib.suppress(ValueError):
            self._left.remove(host)
        self._line.clear()

    async def _draw(self) -> None:
        await asyncio.sleep(_PATIENCE_SECONDS)
        while self._left:
            seconds = time.monotonic() - self._began
            self._line.draw(waiting_text(self._left, self._total, seconds, self._line.width))
            await asyncio.sleep(_DRAW_SECONDS)


def waiting_text(left: Sequence[str], total: int, seconds: float, width: int) -> str:
    """Names as many of the hosts as fit."""
    head = f"{total - len(left)} of {total} hosts have answered. " if total > 1 else ""
    head += f"Waiting {seconds:.0f} s for "
    best = ""
    for count in range(1, len(left) + 1):
        rest = len(left) - count
        text = head + ", ".join(left[:count]) + (f" and {rest} more" if rest else "")
        if best and len(text) > width:
            break
        best = text
    return best
