"""Python's driver on a real standalone cluster: spark-submit, `spark`, interrupts, the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Start, eventually
from .client import kernel_id, reply_of
from .cluster import Standalone
from .conftest import InstallSample

pytestmark = pytest.mark.spark

NAME = "spark_python_standalone"
COUNT = "sc.parallelize(range(100), 2).map(lambda x: x * x).sum()"
JOBS = "len(sc.statusTracker().getActiveJobsIds())"
#: A job that says on the worker that it runs, and goes on for a minute.
SLOW = """
def slow(number):
    open("/tmp/job-runs", "w").close()
    import time
    time.sleep(60)
sc.parallelize([0], 1).foreach(slow)
"""


@pytest.fixture
def python(install_sample: InstallSample, standalone_site: SparkSite) -> str:
    return install_sample(NAME, standalone_site)


@pytest.mark.long  # test_conformance does so in client mode, once
def test_lazy_and_interrupted(
    python: str, start: Start, spark_rig: Any, standalone: Standalone
) -> None:
    session = start(python)
    assert session.value("1 + 1") == 2
    assert "will be when it is used" in session.run("print(repr(globals()['spark']))")
    assert standalone.applications() == []  # nobody has used it
    assert session.value(COUNT) == 328350
    assert standalone.applications() == [kernel_id(session)]
    assert session.value("type(spark).__name__") == "SparkSession"
    worker = spark_rig.hosts[1]
    for _ in range(2):
        request = session.client.execute(SLOW, stop_on_error=False)
        eventually(lambda: "job-runs" in worker.files("/tmp"), 30)
        worker.run(["rm", "/tmp/job-runs"])
        session.manager.interrupt_kernel()
        assert reply_of(session, request)["ename"] == "KeyboardInterrupt"
        assert session.value(JOBS) == 0
        assert session.value(COUNT) == 328350  # and not the answer that the job never gave


def test_a_session_of_the_cells_own(python: str, start: Start, standalone: Standalone) -> None:
    """A cell that makes `spark` itself is not given ours before, with other settings."""
    session = start(python)
    own = "SparkSession.builder.config('spark.app.name', 'mine').getOrCreate()"
    session.run(f"from pyspark.sql import SparkSession\nspark = {own}")
    assert standalone.applications() == ["mine"]
    assert session.value("sc.appName") == "mine"  # what is ours leads to it


def test_none(install_sample: InstallSample, standalone_site: SparkSite, start: Start) -> None:
    options = {"LAUNCH_OPTS": "--spark-context-initialization-mode none"}
    session = start(install_sample(NAME, standalone_site, env=options, argv=page_argv()))
    assert session.value("'spark' in globals()") is False


def page_argv(run: str = "{resource_dir}/bin/run.sh") -> list[str]:
    """argv as it stands on the operator's page."""
    words = ["--kernel-id", "{kernel_id}", "--response-address", "{response_address}"]
    return [run, *words, "--public-key", "{public_key}"]


def test_a_kernelspec_as_on_the_operators_page(
    python: str, start: Start, tmp_path: Path, standalone: Standalone
) -> None:
    """Absolute paths of the server's: the directory travels, the path is that of the copy.

    And an eager session, which nobody has to use.
    """
    file = tmp_path / "jupyter/kernels" / python / "kernel.json"
    content = json.loads(file.read_text())
    content["argv"] = page_argv(f"{file.parent}/bin/run.sh")
    home = content["env"]["SPARK_HOME"]
    content["env"]["PYTHONPATH"] = f"${{HOME}}/.local/lib:{home}/python:{home}/py4j-src.zip"
    content["env"]["SPARK_YARN_USER_ENV"] = "PYTHONUSERBASE=/home/yarn/.local,PATH=/x:$PATH"
    content["env"]["SPARK_OPTS"] += " --conf 'spark.x.y=a b'"
    content["env"]["LAUNCH_OPTS"] = "--spark-context-initialization-mode eager"
    file.write_text(json.dumps(content))
    session = start(python, env={"KERNEL_EXTRA_SPARK_OPTS": "--conf 'spark.x.z=$(id); c'"})
    eventually(lambda: standalone.applications() == [kernel_id(session)], 60)
    assert session.value("sc.getConf().get('spark.x.y')") == "a b"
    assert session.value("sc.getConf().get('spark.x.z')") == "$(id); c"
    assert session.value(COUNT) == 328350
