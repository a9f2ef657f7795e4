"""Which tests share a cluster: one process of a run opens the cluster, and runs all these tests.

By the names of tests alone: the process that hands out the tests knows nothing else of them.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

#: Where the tests of engines are.
ENGINES = ("tests/spark/", "tests/engines/", "tests/slurm/", "tests/docker/", "tests/kubernetes/")
_WITH_CLUSTERS = (*ENGINES, "tests/e2e/test_docker")
#: A part of a test's name, and its cluster. The first that fits counts.
_CLUSTERS = {
    "kerberos": "kerberos",
    "yarn": "yarn",
    "engine_away": "yarn",
    "slurm": "slurm",
    "kubernetes": "kubernetes",
    "docker": "docker",
    "podman": "docker",
    "spark": "spark",
}


def cluster_of(test: str) -> str:
    """The cluster of a test, by its id; nothing if it needs none."""
    if not test.startswith(_WITH_CLUSTERS):
        return ""
    return next((cluster for part, cluster in _CLUSTERS.items() if part in test), "")


class ByCluster(LoadScopeScheduling):  # type: ignore[misc]
    """The tests of a cluster are one unit. The largest unit runs first. Other tests are single."""

    def _split_scope(self, nodeid: str) -> Any:
        return cluster_of(nodeid) or nodeid
