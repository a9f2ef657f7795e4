"""Tables of text. Pure, except for `Terminal`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_GAP = "  "
_CUT = "…"
BOLD, RED, GREEN, YELLOW, DIM = "1", "31", "32", "33", "2"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line for each row. Each column is as wide as its widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


@dataclass(frozen=True)
class Terminal:
    """What stdout shows. `width`: None if a line may have any length."""

    width: int | None = None
    coloured: bool = False

    @classmethod
    def of_stdout(cls) -> Terminal:
        """The terminal of this command; colours as https://no-color.org asks."""
        if not sys.stdout.isatty():
            return cls()
        dull = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
        return cls(shutil.get_terminal_size().columns, not dull)


@dataclass(frozen=True)
class Column:
    """`width`: of its usual texts, because a row is printed before the next one is known.

    On a narrow terminal, texts are first cut to `least`, if that is not 0. Then the columns with
    the highest `rank` are left out. `colours`: by the beginning of a text.
    """

    title: str
    width: int = 0
    least: int = 0
    rank: int = 0
    colours: Mapping[str, str] = field(default_factory=dict)


class Table:
    """A table whose rows are printed as they come."""

    def __init__(self, all_columns: Sequence[Column], terminal: Terminal) -> None:
        self._all = all_columns
        self._terminal = terminal
        self._widths = [max(len(column.title), column.width) for column in all_columns]
        self._shown = list(range(len(all_columns)))
        if terminal.width is not None:
            self._fit(terminal.width)

    def _fit(self, width: int) -> None:
        if self._needed() > width:
            for position, column in enumerate(self._all):
                if column.least:
                    self._widths[position] = max(len(column.title), column.least)
        while self._needed() > width:
            last = max(self._shown, key=lambda position: self._all[position].rank)
            if self._all[last].rank == 0:
                return
            self._shown.remove(last)

    def _needed(self) -> int:
        return sum(self._widths[shown] + len(_GAP) for shown in self._shown) - len(_GAP)

    @property
    def header(self) -> str:
        return self._line([column.title for column in self._all], header=True)

    def row(self, texts: Sequence[str]) -> str:
        return self._line(texts)

    def _line(self, texts: Sequence[str], header: bool = False) -> str:
        left = self._terminal.width
        cells: list[str] = []
        for shown in self._shown:
            column, text, width = self._all[shown], texts[shown], self._widths[shown]
            if left is not None and column.least:
                text = text[:width]
            if left is not None and len(text) > left:
                text = text[: max(0, left - len(_CUT))] + _CUT[: max(0, left)]
            if left is not None:
                left -= max(width, len(text)) + len(_GAP)
            blank = " " * (width - len(text))
            cells.append(self._coloured(text, column, header) + blank)
        return _GAP.join(cells).rstrip()

    def _coloured(self, text: str, column: Column, header: bool) -> str:
        colours = [code for start, code in column.colours.items() if text.startswith(start)]
        code = BOLD if header else next(iter(colours), "")
        return f"\x1b[{code}m{text}\x1b[0m" if code and text and self._terminal.coloured else text
