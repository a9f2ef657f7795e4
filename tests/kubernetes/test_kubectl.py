"""A pod that somebody else runs, as a host: `kubectl exec -i` is the way in."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from remote_provisioners.errors import HostError

from ..conftest import InstallSpec, Start, eventually
from .cluster import IMAGE, Cluster, template

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.long,
]


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[str]:
    made = template()
    made["metadata"] = {**made.get("metadata", {}), "name": "gpu-0", "namespace": "lab"}
    container = made["spec"]["containers"][0]
    container |= {"image": IMAGE, "command": ["/usr/bin/sleep", "infinity"]}
    container["imagePullPolicy"] = "Never"
    container.setdefault("name", "kernel")
    cluster.apply({"apiVersion": "v1", "kind": "Pod", **made})
    cluster.kube("-n", "lab", "wait", "--for=condition=Ready", "--timeout=60s", "pod/gpu-0")
    yield "gpu-0"
    cluster.kube("-n", "lab", "delete", "pod", "gpu-0", "--force", "--ignore-not-found")


def kubectl(cluster: Cluster) -> list[str]:
    words = [str(cluster.bin / "kubectl"), f"--kubeconfig={cluster.admin}"]
    return [*words, "exec", "-i", "-n", "lab", "pod/{host}", "--"]


def test_a_kernel_in_a_pod(
    cluster: Cluster, pod: str, install_spec: InstallSpec, start: Start
) -> None:
    name = install_spec(pod, connect=kubectl(cluster), python=sys.executable)
    session = start(name)
    assert session.value("__import__('os').uname().nodename") == pod
    assert len(session.run("print('x' * 20_000_000)")) == 20_000_001
    session.manager.restart_kernel()
    session.client.wait_for_ready(timeout=60)
    assert session.value("6 * 7") == 42


def test_the_pod_is_deleted(
    cluster: Cluster, pod: str, install_spec: InstallSpec, start: Start
) -> None:
    """The error of a start says what kubectl says, at once."""
    name = install_spec(pod, connect=kubectl(cluster), python=sys.executable)
    session = start(name)
    cluster.kube("-n", "lab", "delete", "pod", pod, "--force", "--grace-period=0")
    eventually(lambda: session.kernel.life.state.name == "UNREACHABLE", 60)
    began = time.monotonic()
    with pytest.raises(HostError, match='pods "gpu-0" not found'):
        start(name)
    assert time.monotonic() - began < 5
