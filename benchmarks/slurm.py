"""How soon a kernel in a Slurm job answers, on a real cluster on this machine.

    python -m benchmarks.slurm [ROUNDS]

Times of a first start begin when slurmctld has started the job, as its log says. Each round also
starts a local kernel; the ratios are those of the medians.
"""

from __future__ import annotations

import datetime
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tests.rig import open_rig
from tests.slurm.cluster import Slurm

from .engine_kernels import answered, write_kernelspecs

_STANZA = {"provisioner_name": "slurm-provisioner", "config": {"python": sys.executable}}
#: The template that later kernels are forked from is loaded after the first start.
_TEMPLATE_SECONDS = 3.0


def started_at(slurm: Slurm, job: str) -> float:
    """When the controller started the job, by its log."""
    log = slurm.controller.run(["cat", "/run/slurmctld.log"], user="root")
    found = re.search(rf"^\[(\S+?)\] sched\S*.* (?:Started|Allocate) JobId={job} ", log, re.M)
    assert found is not None, log[-2000:]
    return datetime.datetime.fromisoformat(found[1]).timestamp()


def one_round(slurm: Slurm) -> dict[str, float]:
    specs, times = KernelSpecManager(), {}
    manager = KernelManager(kernel_name="local", kernel_spec_manager=specs)
    began = time.time()
    manager.start_kernel()
    times["local kernel"] = answered(manager) - began
    manager.shutdown_kernel(now=True)
    manager = KernelManager(kernel_name="slurm", kernel_spec_manager=specs)
    manager.start_kernel()
    replied = answered(manager)
    job = manager.provisioner.placer._node.job
    times["job started to reply"] = replied - started_at(slurm, job)
    time.sleep(_TEMPLATE_SECONDS)
    began = time.time()
    manager.restart_kernel(now=True)
    times["restart in place"] = answered(manager) - began
    manager.shutdown_kernel(now=True)
    return times


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with open_rig(3) as rig, tempfile.TemporaryDirectory() as directory:
        slurm = Slurm(rig.hosts)
        try:
            slurm.open()
            os.environ.update(slurm.environ, JUPYTER_PATH=directory, **rig.environ)
            write_kernelspecs(Path(directory), "slurm", _STANZA)
            found = [one_round(slurm) for _ in range(rounds)]
        finally:
            slurm.close()
    local = statistics.median(times["local kernel"] for times in found)
    for name in found[0]:
        seconds = [times[name] for times in found]
        median = statistics.median(seconds)
        spread = f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f}"
        print(f"{name:<24}{median * 1000:6.0f} ms  ({spread})  {median / local:.2f} x local")


if __name__ == "__main__":
    main()
