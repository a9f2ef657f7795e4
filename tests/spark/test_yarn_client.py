"""What is YARN's own in client mode; the life of kernels there is in test_conformance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Start
from ..rig import Host
from .client import kernel_id, reply_of, told
from .conformance import Table
from .conftest import InstallSample
from .yarn import Yarn

pytestmark = pytest.mark.yarn

NAME = "spark_python_yarn_client"


@pytest.fixture
def python(install_sample: InstallSample, yarn_site: SparkSite, yarn: Yarn) -> str:
    return install_sample(NAME, yarn_site, options=yarn.options)


def test_no_container_is_free(python: str, start: Start, yarn: Yarn, conformance: Table) -> None:
    """It is said so, can be given up, and leaves the queue with its kernel."""
    with conformance.row(NAME, "no container free"):
        session = start(python, env={"KERNEL_EXTRA_SPARK_OPTS": "--queue small"})
        request = session.client.execute("spark.range(5).count()", stop_on_error=False)
        told(session, "is accepted by YARN, waiting for resources in queue small")
        session.manager.interrupt_kernel()
        assert reply_of(session, request)["ename"] == "KeyboardInterrupt"
        assert yarn.applications() == {kernel_id(session): "ACCEPTED"}
        session.manager.shutdown_kernel()
        yarn.gone()


def test_no_resource_manager_there(
    install_sample: InstallSample,
    yarn_site: SparkSite,
    yarn: Yarn,
    start: Start,
    driver_host: Host,
    conformance: Table,
) -> None:
    """The kernel starts; who waits for Spark is told so, can give up, and can end it."""
    directory = f"{driver_host.home}/nowhere"
    address = "<name>yarn.resourcemanager.address</name><value>127.0.0.1:1</value>"
    text = f"<configuration><property>{address}</property></configuration>"
    driver_host.write(f"{directory}/yarn-site.xml", text)
    site = replace(yarn_site, hadoop_conf_dir=directory)
    with conformance.row(NAME, "engine down at start"):
        session = start(install_sample(NAME, site, options=yarn.options))
        request = session.client.execute("spark.range(5).count()", stop_on_error=False)
        told(session, "waiting for the Spark session: no answer from yarn")
        session.manager.interrupt_kernel()
        assert reply_of(session, request)["ename"] == "KeyboardInterrupt"
        assert session.value("6 * 7") == 42
        session.manager.shutdown_kernel()
        assert not session.manager.is_alive()
