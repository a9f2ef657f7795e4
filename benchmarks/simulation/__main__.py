"""Simulate, and print the tables: ``python -m benchmarks.simulation`` from the root."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import machine
from ..command import output
from .client_sockets import Cost
from .report import Results, render
from .scale import Found, Scale

HERE = Path(__file__).parent
#: Where files are memory, on Linux.
_MEMORY_DIRECTORY = "/dev/shm"

PLACEMENT_HOSTS = [1, 100, 1000]
SCALES = [Scale(1, 100), Scale(100, 1000), Scale(1000, 1000), Scale(1000, 10_000)]
#: Of the whole run; it takes two minutes where nobody else is at work.
MOST_SECONDS = 175.0
_BEGAN = time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/SIMULATION.md")
    options = parser.parse_args()
    results = run()
    report = render(results)
    print(report)
    if options.write:
        (HERE.parent / "SIMULATION.md").write_text(f"# Simulation\n\n{report}")
    return 0


def run() -> Results:
    described = _machine()
    placements = _measure("placement", PLACEMENT_HOSTS)
    places = {"the server's directory": ""}
    if os.access(_MEMORY_DIRECTORY, os.W_OK):
        places[_MEMORY_DIRECTORY] = _MEMORY_DIRECTORY
    forwards = {where: _forwards(directory) for where, directory in places.items()}
    scales: list[Found] = []
    for scale in SCALES:
        scales.append(_scale(scale))
        if scales[-1].kernels < scale.kernels:  # the rest of it can be seen without sockets
            scales.append(_scale(Scale(scale.hosts, scale.kernels, sockets=False)))
    described["duration"] = f"{time.monotonic() - _BEGAN:.0f} s"
    return Results(placements, scales, forwards, described)


def _scale(scale: Scale) -> Found:
    return Found(**_measure("scale", vars(scale)))


def _forwards(directory: str) -> dict[str, Cost]:
    environ = {"XDG_RUNTIME_DIR": directory} if directory else {}
    measured = _measure("forwards", None, environ)
    return {name: Cost(**cost) for name, cost in measured.items()}


def _measure(what: str, argument: Any, environ: Mapping[str, str] | None = None) -> Any:
    """In a process of its own: what memory it takes is not what an earlier one left."""
    print(f"{time.strftime('%H:%M:%S')} {what} {argument or ''}", file=sys.stderr)
    argv = [sys.executable, "-m", f"{__package__}.one", what, json.dumps(argument)]
    left = max(1.0, _BEGAN + MOST_SECONDS - time.monotonic())
    return json.loads(output(argv, environ={**os.environ, **(environ or {})}, limit=left))


def _machine() -> dict[str, str]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {machine._processor()}, {platform.system()} "
        f"{platform.release()}, load {os.getloadavg()[0]:.1f} at the beginning",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "sockets": os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(),
    }


if __name__ == "__main__":
    sys.exit(main())
