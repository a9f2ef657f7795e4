"""Drivers of Spark against a bare spark-submit: ``python -m benchmarks.spark [--write]``.

The same kernel on the same host and the same engines, real ones, in turns. What is bare is started
within the host, without SSH, and interrupted by a SIGINT there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import AsyncKernelManager, KernelManager

from remote_provisioners.cli.spec.samples import SparkSite
from remote_provisioners.io_thread import close_io_thread
from tests.conftest import eventually
from tests.rig import Host, Rig, open_rig
from tests.spark import cluster, kernelspec
from tests.spark.yarn import CONF, Yarn

from .fleet import table
from .machine import write_page

STARTS, INTERRUPTS, KILLS = 5, 3, 3
PORTS = dict(zip(("shell", "iopub", "stdin", "control", "hb"), range(45001, 45006), strict=True))
KERNEL, CONNECTION = "/tmp/bare_kernel.py", "/tmp/bare.json"
BARE = "from ipykernel.kernelapp import launch_new_instance\nlaunch_new_instance()\n"
SESSION = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
SLOW = """
def slow(number):
    open("/tmp/job-runs", "w").close()
    import time
    time.sleep(60)
spark.sparkContext.parallelize([0], 1).foreach(slow)
"""
JOBS = "print(len(spark.sparkContext.statusTracker().getActiveJobsIds()))"
FULL = "--queue small"  # it holds no application
Row = tuple[str, str, str]


def connected(client: BlockingKernelClient) -> BlockingKernelClient:
    """When it has answered for the first time."""
    client.start_channels()
    client.kernel_info(reply=True, timeout=120)
    return client


class Bare:
    """spark-submit on the host, with a program that runs ipykernel and nothing else."""

    def __init__(self, host: Host, options: str) -> None:
        self._host, self._options = host, options
        self._info = {f"{name}_port": port for name, port in PORTS.items()}
        self._info |= {"ip": host.address, "key": "k", "transport": "tcp"}
        self._info["signature_scheme"] = "hmac-sha256"
        host.write(CONNECTION, json.dumps(self._info))
        host.write(KERNEL, BARE)

    def start(self) -> BlockingKernelClient:
        words = [f"{cluster.spark_home()}/bin/spark-submit", *shlex.split(self._options)]
        environ = {**kernelspec.java(), "PATH": os.environ["PATH"]}
        environ["PYSPARK_PYTHON"] = sys.executable
        cluster.spawn(self._host, "/tmp/bare.log", [*words, KERNEL, "-f", CONNECTION], environ)
        client = BlockingKernelClient()
        client.load_connection_info({**self._info, "key": b"k"})
        return connected(client)

    def _pids(self) -> list[str]:
        return [str(p.pid) for p in self._host.processes() if KERNEL in p.argv]

    def interrupt(self) -> None:
        *_, kernel = self._pids()  # Spark's own processes would end
        self._host.run(["kill", "-INT", kernel])

    def stop(self) -> None:
        self._host.run(["kill", "-KILL", *self._pids()], check=False)
        eventually(lambda: not self._pids())


class Ours:
    """The sample kernelspec, as any application starts it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def start(self) -> BlockingKernelClient:
        self.manager = KernelManager(kernel_name=self._name)
        self.manager.start_kernel()
        return connected(self.manager.client())

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def stop(self) -> None:
        self.manager.shutdown_kernel(now=True)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def ready(bare: Bare, ours: Ours, host: Host) -> list[Row]:
    taken: dict[Any, list[float]] = {bare: [], ours: []}
    ours.start().stop_channels()  # connected
    ours.stop()
    for _ in range(STARTS):
        for subject, each in taken.items():
            clients: list[BlockingKernelClient] = []
            each.append(seconds(lambda s=subject, c=clients: c.append(s.start())))
            clients[0].stop_channels()
            subject.stop()
    medians = [statistics.median(each) for each in taken.values()]
    entered = statistics.median(seconds(lambda: host.run(["true"])) for _ in range(STARTS))
    return [
        ("bare spark-submit of a kernel, until its first answer", f"{medians[0]:.2f} s", ""),
        ("of this, entering the host", f"{entered:.2f} s", ""),
        ("this package: additional time", f"{medians[1] - medians[0]:+.2f} s", "at most +0.3 s"),
    ]


def said(client: BlockingKernelClient, code: str) -> str:
    shown: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        shown.append(message["content"].get("text", ""))

    client.execute_interactive(code, timeout=120, output_hook=collect, stop_on_error=False)
    return "".join(shown).strip()


def interrupted(subject: Bare | Ours, worker: Host) -> tuple[float, float, str]:
    """Seconds until the cell is back, and until no job runs; the jobs that run at last."""
    client = subject.start()
    said(client, SESSION)
    backs, idles = [], []
    for _ in range(INTERRUPTS):
        request = client.execute(SLOW, stop_on_error=False)
        eventually(lambda: "job-runs" in worker.files("/tmp"), 60)
        worker.run(["rm", "/tmp/job-runs"])
        began = time.perf_counter()
        subject.interrupt()
        while client.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != request:
            pass
        backs.append(time.perf_counter() - began)
        while (jobs := said(client, JOBS)) != "0" and time.perf_counter() - began < 5:
            time.sleep(0.02)
        idles.append(time.perf_counter() - began)
        if jobs != "0":
            break  # it holds the only core
    client.stop_channels()
    subject.stop()
    return statistics.median(backs), statistics.median(idles), jobs


def interrupts(bare: Bare, ours: Ours, worker: Host) -> list[Row]:
    bare_back, _, left = interrupted(bare, worker)
    back, idle, jobs = interrupted(ours, worker)
    assert jobs == "0", jobs
    return [
        ("bare SIGINT while a job runs, until the cell ends", f"{bare_back:.2f} s", ""),
        ("jobs that still run 5 s later", left, ""),
        (
            "this package: additional time until the cell ends",
            f"{back - bare_back:+.2f} s",
            "under +1 s",
        ),
        (
            "this package: additional time until the job is cancelled",
            f"{idle - bare_back:+.2f} s",
            "under +1 s",
        ),
    ]


async def given_up(name: str, yarn: Yarn, state: str) -> float:
    """Seconds from giving a start up, whose application has come so far, until it is gone."""
    manager = AsyncKernelManager(kernel_name=name)
    starting = asyncio.ensure_future(manager.start_kernel(env={"KERNEL_QUEUE": "small"}))
    while state and state not in yarn.applications().values():
        await asyncio.sleep(0.02)
    if not state:
        await asyncio.sleep(1)  # spark-submit is under way
        assert not yarn.applications()
    began = time.perf_counter()
    starting.cancel()
    await asyncio.wait([starting])
    while yarn.applications():
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


def left_queue(name: str, yarn: Yarn) -> float:
    """The same of a kernel that is shut down, whose session waits for its application."""
    manager = KernelManager(kernel_name=name)
    manager.start_kernel(env={"KERNEL_EXTRA_SPARK_OPTS": FULL})
    client = connected(manager.client())
    client.execute("spark.range(5).count()")
    eventually(lambda: "ACCEPTED" in yarn.applications().values(), 60)

    def end() -> None:
        manager.interrupt_kernel()
        manager.shutdown_kernel()
        eventually(lambda: not yarn.applications(), 60)

    taken = seconds(end)
    client.stop_channels()
    return taken


def kills(client_mode: str, cluster_mode: str, yarn: Yarn) -> list[Row]:
    async def all_given_up(state: str) -> float:
        return statistics.median([await given_up(cluster_mode, yarn, state) for _ in range(KILLS)])

    early = asyncio.run(all_given_up(""))
    accepted = asyncio.run(all_given_up("ACCEPTED"))
    queued = statistics.median(left_queue(client_mode, yarn) for _ in range(KILLS))
    return [
        (
            "cluster mode: start cancelled before YARN has it, until it is gone",
            f"{early:.1f} s",
            "under 3 s",
        ),
        (
            "cluster mode: start cancelled once accepted, until it is gone",
            f"{accepted:.1f} s",
            "under 3 s",
        ),
        ("client mode: shut down once accepted, until it is gone", f"{queued:.1f} s", "under 3 s"),
    ]


def measure(rig: Rig, shared: Path, data: Path) -> list[Row]:
    """Rows: what, figure, goal."""
    home, host, worker = cluster.spark_home(), *rig.hosts
    spark = cluster.Standalone(rig.hosts)
    spark.open()
    site = SparkSite(home, spark.master, python=sys.executable)
    ours = Ours(kernelspec.write(data, host, "spark_python_standalone", site))
    bare = Bare(host, f"--master {spark.master} {kernelspec.SMALL}")
    rows = [*ready(bare, ours, host), *interrupts(bare, ours, worker)]
    yarn = Yarn(rig.hosts, shared)
    yarn.open()
    names = [
        kernelspec.write(data, host, sample, site, options=yarn.options)
        for sample, site in (
            ("spark_python_yarn_client", SparkSite(home, "", CONF, sys.executable)),
            ("spark_python_yarn_cluster", SparkSite(home, "", yarn.configuration, sys.executable)),
        )
    ]
    return [*rows, *kills(*names, yarn)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/SPARK.md")
    arguments = parser.parse_args()
    # The second is below the environment's prefix, which hosts see: /tmp is each host's own.
    with (
        tempfile.TemporaryDirectory() as temporary,
        tempfile.TemporaryDirectory(prefix="yarn-staging-", dir=sys.prefix) as shared,
        open_rig(2) as rig,
    ):
        os.environ.update(rig.environ)
        os.environ["JUPYTER_PATH"] = temporary
        os.environ["JUPYTER_RUNTIME_DIR"] = temporary
        try:
            text = table(measure(rig, Path(shared), Path(temporary)))
        finally:
            close_io_thread()
    print(text)
    if arguments.write:
        write_page("SPARK.md", "Spark drivers, compared with a bare spark-submit", text)


if __name__ == "__main__":
    main()
