"""Agents measure time limits by the monotonic clock: a host's own may jump."""

from __future__ import annotations

import ast
from pathlib import Path

import remote_provisioners

# What a user is shown: since when something runs, when a message was made.
SHOWN = {
    ("operations.py", 1),
    ("gap_notice.py", 1),
    ("kernel_process.py", 1),
    ("warm_kernels.py", 1),
}
WALL = {"time.time", "time.gmtime", "time.localtime", "datetime.now", "time.time_ns", "date.today"}


def wall_clock_reads(path: Path) -> int:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return sum(ast.unparse(call.func).endswith(tuple(WALL)) for call in calls)


def test_the_wall_clock_is_read_for_what_is_shown_only() -> None:
    package = Path(remote_provisioners.__file__).parent
    sources = [path for name in ("agent", "protocol") for path in (package / name).rglob("*.py")]
    reads = {(path.name, wall_clock_reads(path)) for path in sources}
    assert {(name, count) for name, count in reads if count} == SHOWN
