"""YARN's cluster mode: what is its own; the life of kernels there is in test_conformance."""

from __future__ import annotations

import logging

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Start
from .client import kernel_id
from .conftest import InstallSample
from .yarn import Yarn

pytestmark = pytest.mark.yarn

NAME = "spark_python_yarn_cluster"
COUNT = "sc.parallelize(range(100), 2).map(lambda x: x * x).sum()"

def test_it(install_sample: InstallSample, yarn_cluster_site: SparkSite, start: Start, yarn: Yarn, caplog) -> None:
    caplog.set_level(logging.INFO)
    session = start(install_sample(NAME, yarn_cluster_site, options=yarn.options))
    print(session.provisioner.place, yarn.applications())
    assert session.value(COUNT) == 328350
    session.manager.shutdown_kernel()
    yarn.gone()
