"""Scala by Apache Toree on a real standalone cluster."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Start, eventually
from .client import kernel_id, output, reply_of
from .cluster import Standalone
from .conftest import InstallSample

pytestmark = pytest.mark.spark

COUNT = "sc.parallelize(1 to 100, 2).sum().toInt"
SLOW = """
sc.parallelize(Seq(0), 1).foreach { n =>
  new java.io.File("/tmp/job-runs").createNewFile()
  Thread.sleep(60000)
}
"""


@pytest.fixture
def scala(install_sample: InstallSample, standalone_site: SparkSite) -> str:
    if importlib.util.find_spec("toree") is None:
        pytest.skip("Apache Toree is not installed (pip install --no-deps toree==0.5.0)")
    return install_sample("spark_scala_standalone", standalone_site)


def test_scala(scala: str, start: Start, standalone: Standalone, spark_rig: Any) -> None:
    import time
    t=time.time()
    session = start(scala)
    print("start", time.time()-t)
    assert output(session, 'println("a line")') == "a line\n"
    assert "5050" in output(session, COUNT, "5050")
    assert standalone.applications() == [kernel_id(session)]
    assert "boom" in output(session, 'sys.error("boom")', "boom")

    worker = spark_rig.hosts[1]
    request = session.client.execute(SLOW)
    eventually(lambda: "job-runs" in worker.files("/tmp"), 60)
    worker.run(["rm", "/tmp/job-runs"])
    t=time.time()
    session.manager.interrupt_kernel()
    print(reply_of(session, request), time.time()-t)
    for _ in range(3):
        session.manager.interrupt_kernel()
    assert "5050" in output(session, COUNT, "5050")

    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=90)
    eventually(lambda: standalone.applications() == [])
    assert "5050" in output(session, COUNT, "5050")
    t=time.time()
    session.manager.shutdown_kernel()
    print("shutdown", time.time()-t)
    eventually(lambda: standalone.applications() == [])
