"""The table of docs/spark-conformance.md: what was seen to work, by kernelspec."""

from __future__ import annotations

from ..table import Table

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


def table() -> Table:
    return Table("spark-conformance.md", _HEAD, ROWS)
