"""Scala on Spark 4, for whose Scala (2.13) there is no Toree: the same life, on a cluster of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Start
from . import test_conformance
from .cluster import Standalone, spark_4_home
from .conformance import Table
from .conftest import InstallSample


@pytest.fixture(scope="module")
def standalone(spark_rig: Any) -> Iterator[Standalone]:
    """In place of the other tests' cluster, next to it."""
    made = Standalone(spark_rig.hosts, spark_4_home(), shifted=100)
    made.open()
    yield made
    made.close()


@pytest.fixture
def standalone_site(standalone: Standalone) -> SparkSite:
    return SparkSite(standalone.home, standalone.master, python=sys.executable)


class _Spark4:
    """The table's column for it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def row(self, kernelspecs: list[str], row: str) -> Any:
        return self._table.row([f"{spec}, Spark 4" for spec in kernelspecs], row)


@pytest.mark.spark
@pytest.mark.long
def test_scala(
    request: pytest.FixtureRequest,
    install_sample: InstallSample,
    start: Start,
    spark_rig: Any,
    conformance: Table,
) -> None:
    table: Any = _Spark4(conformance)
    life = test_conformance.test_life
    life("scala", "standalone", request, install_sample, start, spark_rig, table)
