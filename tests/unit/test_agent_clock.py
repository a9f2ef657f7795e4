"""Agents measure time limits by the monotonic clock: a host's own may jump."""

from __future__ import annotations

import ast
from pathlib import Path

import remote_provisioners.agent

# What a user is shown: since when something runs, when a message was made.
SHOWN = {("marker.py", 1), ("process.py", 1), ("server.py", 1), ("warm.py", 1)}
WALL = {"time.time", "time.gmtime", "time.localtime", "datetime.now", "time.time_ns", "date.today"}


def wall_clock_reads(path: Path) -> int:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return sum(ast.unparse(call.func).endswith(tuple(WALL)) for call in calls)


def test_the_wall_clock_is_read_for_what_is_shown_only() -> None:
    directory = Path(remote_provisioners.agent.__file__).parent
    reads = {(path.name, wall_clock_reads(path)) for path in directory.glob("*.py")}
    assert {(name, count) for name, count in reads if count} == SHOWN
