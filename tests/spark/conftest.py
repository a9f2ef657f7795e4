"""Clusters, one of each kind a session, and the sample kernelspecs on them."""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from remote_provisioners.cli.spec.samples import SparkSite
from remote_provisioners.io_thread import close_io_thread

from ..conftest import Session, be_client
from ..rig import Host, Rig, open_rig
from ..table import Table
from . import cluster, kernelspec
from .conformance import table
from .requirements import need
from .yarn import CONF, Yarn
from .yarn import unavailable as yarn_unavailable


@pytest.fixture(scope="session")
def spark_rig() -> Iterator[Rig]:
    """Two hosts of the engines' own: daemons of theirs run there all the time."""
    need(cluster.unavailable())
    opened = open_rig(2)
    if not opened.own_address:
        need("needs root and network namespaces: each host of a cluster has its address")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def standalone(spark_rig: Rig) -> cluster.Standalone:
    made = cluster.Standalone(spark_rig.hosts)
    made.open()
    return made


@pytest.fixture(scope="session")
def yarn(spark_rig: Rig) -> Iterator[Yarn]:
    need(yarn_unavailable())
    # Below the environment's prefix, which hosts see: /tmp is each host's own.
    with tempfile.TemporaryDirectory(prefix="yarn-staging-", dir=sys.prefix) as shared:
        made = Yarn(spark_rig.hosts, Path(shared))
        made.open()
        yield made


@pytest.fixture
def driver_host(spark_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The host that kernels are started on; nothing of them may be left there."""
    be_client(spark_rig, monkeypatch)
    yield spark_rig.hosts[0]
    close_io_thread()
    deadline = time.monotonic() + 20
    for host in spark_rig.hosts:
        while left := [p for p in host.processes() if not cluster.DAEMONS & {*p.argv}]:
            assert time.monotonic() < deadline, f"left on {host.name}: {left}"
            time.sleep(0.05)


InstallSample = Callable[..., str]


@pytest.fixture
def install_sample(
    tmp_path: Path, driver_host: Host, monkeypatch: pytest.MonkeyPatch
) -> InstallSample:
    """Install a sample kernelspec for Spark; returns its name."""
    data = tmp_path / "jupyter"
    monkeypatch.setenv("JUPYTER_PATH", str(data))
    return functools.partial(kernelspec.write, data, driver_host)


StartTogether = Callable[..., list[Session]]


@pytest.fixture
def start_together() -> Iterator[StartTogether]:
    """Start kernels of these kernelspecs at the same time; they are shut down at the end."""
    sessions: list[Session] = []

    def started(names: Sequence[str], **kwargs: Any) -> list[Session]:
        specs = KernelSpecManager()
        managers = [KernelManager(kernel_name=name, kernel_spec_manager=specs) for name in names]

        async def start() -> None:
            await asyncio.gather(*(m._async_start_kernel(**kwargs) for m in managers))

        ensure_event_loop().run_until_complete(start())
        sessions.extend(Session(manager) for manager in managers)
        return sessions[-len(managers) :]

    yield started
    for session in sessions:
        session.close()


@pytest.fixture
def standalone_site(standalone: cluster.Standalone) -> SparkSite:
    return SparkSite(cluster.spark_home(), standalone.master, python=sys.executable)


@pytest.fixture
def yarn_site(yarn: Yarn) -> SparkSite:
    return SparkSite(cluster.spark_home(), hadoop_conf_dir=CONF, python=sys.executable)


@pytest.fixture
def yarn_cluster_site(yarn: Yarn) -> SparkSite:
    """For who submits from this machine."""
    return SparkSite(
        cluster.spark_home(), hadoop_conf_dir=yarn.configuration, python=sys.executable
    )


_table = table()


@pytest.fixture(scope="session")
def conformance() -> Table:
    """What this run has seen; written to the docs where that is asked for."""
    return _table


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--conformance-table"):
        _table.write()
