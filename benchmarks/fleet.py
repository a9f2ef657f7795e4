"""Many starts over three hosts, and one of them down: ``python -m benchmarks.fleet [--write]``.

Ratios to local kernels of the same run, started one after the other. All is in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from remote_provisioners.io_thread import close_io_thread
from tests.rig import Rig, open_rig

from .machine import write_page

ARGV = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
BURST, WAVES_TOTAL = 30, 200


async def start(name: str) -> AsyncKernelManager:
    """Start a kernel and await its first reply."""
    manager = AsyncKernelManager(kernel_name=name)
    await manager.start_kernel()
    client = manager.client()
    client.start_channels(iopub=False, stdin=False, hb=False, control=False)
    try:
        await client.kernel_info(reply=True, timeout=120)
    finally:
        client.stop_channels()
    return manager


async def end(managers: list[AsyncKernelManager]) -> None:
    await asyncio.gather(*(manager.shutdown_kernel(now=True) for manager in managers))


async def timed(starting: Awaitable[list[AsyncKernelManager]]) -> tuple[float, Counter[str]]:
    """Seconds until all have answered, and the kernels of each host; they are ended then."""
    began = time.perf_counter()
    managers = await starting
    seconds = time.perf_counter() - began
    places = Counter(
        manager.provisioner._kernel.spec.name
        for manager in managers
        if hasattr(manager.provisioner, "_kernel")
    )
    await end(managers)
    return seconds, places


async def one_by_one(name: str, count: int) -> list[AsyncKernelManager]:
    return [await start(name) for _ in range(count)]


async def at_once(name: str, count: int) -> list[AsyncKernelManager]:
    return list(await asyncio.gather(*(start(name) for _ in range(count))))


async def each(name: str, count: int) -> list[float]:
    """Seconds of each of `count` starts, one after the other."""
    seconds, managers = [], []
    for _ in range(count):
        began = time.perf_counter()
        managers.append(await start(name))
        seconds.append(time.perf_counter() - began)
    await end(managers)
    return seconds


async def difference(name: str, other: str, pairs: int) -> float:
    """Seconds that a start of `name` takes longer than one of `other`: medians, interleaved."""
    seconds: dict[str, list[float]] = {name: [], other: []}
    for _ in range(pairs):
        for each_name, taken in seconds.items():
            taken.extend(await each(each_name, 1))
    return statistics.median(seconds[name]) - statistics.median(seconds[other])


async def measure(rig: Rig) -> list[tuple[str, str, str]]:
    """Rows: what, figure, goal."""
    rows = []
    local, places = await timed(one_by_one("local", BURST))
    del places
    rows.append((f"{BURST} local starts, one after the other", f"{local:.1f} s", ""))
    local_at_once, _ = await timed(at_once("local", BURST))
    ratio = f"{local_at_once / local:.2f} x"
    rows.append((f"{BURST} local starts at once", ratio, ""))
    await end([await start("remote") for _ in rig.hosts])  # connected
    burst, places = await timed(at_once("remote", BURST))
    rows.append((f"{BURST} remote starts at once", f"{burst / local:.2f} x", ""))
    ratio = f"{burst / local_at_once:.2f} x"
    rows.append(("the same, relative to local starts at once", ratio, "at most 0.35 x"))
    rows.append(("of these, on each host", str(sorted(places.values())), "10, 10, 10"))
    answered, began = 0, time.perf_counter()
    while answered < WAVES_TOTAL:
        wave = min(BURST, WAVES_TOTAL - answered)
        await end(await at_once("remote", wave))
        answered += wave
    waves = f"{answered} in {time.perf_counter() - began:.0f} s"
    rows.append((f"{WAVES_TOTAL} starts in waves of {BURST}: answered", waves, "all"))
    rig.hosts[0].drop()
    await asyncio.sleep(20)  # its connection is found dead
    close_io_thread()  # a server that has not met any host
    met = await each("remote", 6)
    rows.append(
        ("6 starts with one of 3 hosts unresponsive: total", f"{sum(met):.1f} s", "at most 10 s")
    )
    later = await difference("remote", "remote-up", 9)
    what = "a later start, compared with no unresponsive host"
    rows.append((what, f"{1000 * later:+.0f} ms", "under +50 ms"))
    rig.hosts[0].heal()
    return rows


def install(directory: Path, name: str, argv: list[str], metadata: dict[str, Any]) -> None:
    path = directory / "kernels" / name
    path.mkdir(parents=True)
    spec = {"argv": argv, "display_name": name, "language": "python", "metadata": metadata}
    (path / "kernel.json").write_text(json.dumps(spec))


def table(rows: list[tuple[str, str, str]]) -> str:
    lines = ["| what | figure | goal |", "| --- | ---: | --- |"]
    return "\n".join([*lines, *(f"| {what} | {figure} | {goal} |" for what, figure, goal in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/FLEET.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open_rig(3) as rig:
        stanza: dict[str, Any] = {
            "provisioner_name": "distributed-provisioner",
            "config": {
                "remote_hosts": [host.target for host in rig.hosts],
                "python": sys.executable,
                "launch_timeout": 120,
            },
        }
        install(Path(temporary), "local", [sys.executable, *ARGV], {})
        install(Path(temporary), "remote", ["python", *ARGV], {"kernel_provisioner": stanza})
        up = {**stanza["config"], "remote_hosts": [host.target for host in rig.hosts[1:]]}
        metadata = {"kernel_provisioner": {**stanza, "config": up}}
        install(Path(temporary), "remote-up", ["python", *ARGV], metadata)
        os.environ.update(rig.environ)
        os.environ["JUPYTER_PATH"] = temporary
        os.environ["JUPYTER_RUNTIME_DIR"] = temporary
        try:
            text = table(asyncio.run(measure(rig)))
        finally:
            close_io_thread()
    print(text)
    if arguments.write:
        write_page("FLEET.md", "Many starts, three hosts", text)


if __name__ == "__main__":
    main()
