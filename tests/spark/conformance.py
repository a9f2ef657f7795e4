"""The table of docs/spark-conformance.md: what was seen to work, by kernelspec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "spark-conformance.md"
ROWS = (
    "start",
    "stdout",
    "error",
    "completion",
    "Spark job",
    "interrupt of a cell",
    "interrupt of a Spark job",
    "restart",
    "two kernels side by side",
    "kill -9 of the driver",
    "shutdown",
    "nothing left in the engine",
    "engine down at start",
    "engine lost while running",
    "no container free",
)
YES = "yes"
_HEAD = """\
# Spark: what works

<!-- Written by the tests: python -m pytest tests/spark --conformance-table. -->

Tested with real kernels on real hosts and real engines ([Spark](spark.md)): Spark standalone, and
YARN in client and cluster mode. A cell other than *yes* says what does not work, or why it does not
apply.

- *engine down at start*: the start, or the first cell that uses Spark, names the address that does
  not answer. The cell can be interrupted and the kernel shut down.
- *engine lost while running*: the master or ResourceManager is killed. Jobs continue with the
  executors that they have. The next master (with `spark.deploy.recoveryMode`) takes over the
  application. The next ResourceManager (without recovery) ends it: the next cell that uses Spark
  says so. In cluster mode the kernel has ended and can be restarted.
- *no container free*: the user is told *accepted by YARN, waiting for resources in queue ...*, and
  a cancelled start leaves nothing.

"""


class Table:
    """What one run of the tests has seen."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], str] = {}

    @contextmanager
    def row(self, kernelspecs: Sequence[str], row: str) -> Iterator[None]:
        """It works, with each of them, if the block passes."""
        assert row in ROWS
        self.cells |= {(kernelspec, row): "" for kernelspec in kernelspecs}
        yield
        self.cells |= {(kernelspec, row): YES for kernelspec in kernelspecs}

    def note(self, kernelspec: str, row: str, text: str) -> None:
        """It does not work, or not wholly, for the reason that `text` gives."""
        assert row in ROWS
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
        for row in ROWS:
            lines.append(f"| {row} | {' | '.join(self.cells.get((s, row), '') for s in specs)} |")
        return _HEAD + "\n".join(lines) + "\n"
