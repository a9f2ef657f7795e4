"""One real cluster a session, and kernelspecs for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec, eventually
from .cluster import Cluster, open_cluster, template, unavailable

Install = Callable[..., str]


@pytest.fixture(scope="session")
def opened_cluster() -> Iterator[Cluster]:
    if missing := unavailable():
        pytest.skip(missing)
    with open_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(opened_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster. Nothing may be left in it."""
    yield opened_cluster
    left = opened_cluster.pods()
    try:
        eventually(lambda: not opened_cluster.pods(), 10)
    except AssertionError:
        opened_cluster.kube("-n", "lab", "delete", "pods", "--all", "--force")
        raise AssertionError(f"left: {left}") from None


@pytest.fixture
def install(cluster: Cluster, install_spec: InstallSpec, tmp_path: Path) -> Install:
    """Install a kernelspec for pods; returns its name."""

    def installed(change: Callable[[dict[str, Any]], Any] | None = None, **options: Any) -> str:
        pod = template()
        if change is not None:
            change(pod)
        path = tmp_path / "pod.yaml"
        path.write_text(json.dumps(pod))
        given = {"pod_template": str(path), "kubeconfig": str(cluster.kubeconfig)}
        given |= {"python": sys.executable, "launch_timeout": 60.0}
        config = {name: value for name, value in (given | options).items() if value is not None}
        stanza = {"provisioner_name": "kubernetes-provisioner", "config": config}
        return install_spec(name="pod", spec={"metadata": {"kernel_provisioner": stanza}})

    return installed
