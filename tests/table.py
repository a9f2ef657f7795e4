"""A table of the docs that a test run writes: what was seen to work, by kernelspec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
YES = "yes"


class Table:
    """What one run of the tests has seen."""

    def __init__(self, page: str, head: str, rows: Sequence[str]) -> None:
        """`page`: the file below docs/, which begins with `head`."""
        self._path, self._head, self._rows = DOCS / page, head, tuple(rows)
        self.cells: dict[tuple[str, str], str] = {}

    @contextmanager
    def row(self, kernelspecs: Sequence[str], row: str) -> Iterator[None]:
        """It works, with each of them, if the block passes."""
        assert row in self._rows
        self.cells |= {(kernelspec, row): "" for kernelspec in kernelspecs}
        yield
        self.cells |= {(kernelspec, row): YES for kernelspec in kernelspecs}

    def note(self, kernelspec: str, row: str, text: str) -> None:
        """It does not work, or not wholly, for the reason that `text` gives."""
        assert row in self._rows
        self.cells[kernelspec, row] = text

    def include(self, page: str) -> None:
        """Take what an earlier run has seen of what this one has not run."""
        rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
        for row in rows[2:]:
            for spec, cell in zip(rows[0][1:], row[1:], strict=True):
                self.cells.setdefault((spec.strip(" `"), row[0].strip()), cell.strip())

    def page(self) -> str:
        specs = sorted({spec for spec, _ in self.cells}, key=str.lower)
        lines = [
            f"| | {' | '.join(f'`{spec}`' for spec in specs)} |",
            "| --- " * (len(specs) + 1) + "|",
        ]
        for row in self._rows:
            lines.append(f"| {row} | {' | '.join(self.cells.get((s, row), '') for s in specs)} |")
        return self._head + "\n".join(lines) + "\n"

    def write(self) -> None:
        """Write the page, with what earlier runs have seen of the rest."""
        if self.cells:
            if self._path.exists():
                self.include(self._path.read_text("utf-8"))
            self._path.write_text(self.page(), encoding="utf-8")
