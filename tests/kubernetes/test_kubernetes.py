"""Kernels in pods of a real Kubernetes, one pod a kernel."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import (
    AuthenticationError,
    ConfigurationError,
    KernelStartError,
    LaunchTimeoutError,
    StartCancelledError,
    UnreachableError,
)
from remote_provisioners.io_thread import io_thread
from remote_provisioners.kernels.start.starts import starts

from ..conftest import SLEEP, Start, eventually
from ..engines.errors import doctor, failure
from ..in_background import InBackground
from .cluster import IMAGE, Cluster, template
from .conftest import Install

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.long,
]


def test_a_kernel_has_a_pod_of_its_own(cluster: Cluster, install: Install, start: Start) -> None:
    session = start(install(memory="300Mi", cpus="100m"))
    name, kernel_id = session.host, session.provisioner.kernel_id
    assert re.fullmatch(f"kernel-{kernel_id[:8]}-[0-9a-f]+", name)
    pod = json.loads(cluster.kube("-n", "lab", "get", "pod", name, "-o", "json"))
    assert pod["metadata"]["labels"]["remote-provisioners/kernel"] == kernel_id
    assert pod["spec"]["automountServiceAccountToken"] is False
    limits = {"cpu": "100m", "memory": "300Mi"}
    assert pod["spec"]["containers"][0]["resources"] == {"limits": limits, "requests": limits}
    assert session.value("6 * 7") == 42
    assert session.value("__import__('os').environ['FROM_TEMPLATE']") == "yes"
    assert len(session.run("print('x' * 20_000_000)")) == 20_000_001

    session.client.execute(SLEEP)
    eventually(lambda: session.client.get_iopub_msg()["msg_type"] == "stream")
    session.manager.interrupt_kernel()
    assert session.value("'on'") == "on"

    session.run("left = 1")
    session.manager.restart_kernel()
    session.client.wait_for_ready(timeout=60)
    assert session.value("'left' in globals()") is False
    assert cluster.pods() == [name]

    session.manager.shutdown_kernel()
    assert cluster.pods() == []


def test_the_next_server(cluster: Cluster, install: Install, start: Start) -> None:
    session = start(install())
    session.run("x = 7")
    provisioner, name = session.provisioner, session.host
    info = json.loads(json.dumps(asyncio.run(provisioner.get_provisioner_info())))
    asyncio.run(provisioner.let_go())
    other = start("pod", provisioner_info=info, kernel_id=provisioner.kernel_id)
    assert other.value("x") == 7
    assert other.host == name
    other.manager.shutdown_kernel()
    assert cluster.pods() == []


def test_a_pod_that_is_deleted(cluster: Cluster, install: Install, start: Start) -> None:
    """The kernel is lost at once, and a restart gets another pod."""
    session = start(install())
    name = session.host
    cluster.kube("-n", "lab", "delete", "pod", name, "--grace-period=0", "--force")
    eventually(lambda: session.kernel.life.over, 30)
    assert "the pod has ended: it was deleted" in session.provisioner.reason
    session.manager.restart_kernel(now=True)
    session.client.wait_for_ready(timeout=60)
    assert session.value("1") == 1
    assert session.host != name


def test_an_eviction(cluster: Cluster, install: Install, start: Start) -> None:
    session = start(install())
    name = session.host
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": "lab"},
    }
    path = f"/api/v1/namespaces/lab/pods/{name}/eviction"
    cluster.kube("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    eventually(lambda: session.kernel.life.over, 30)
    assert "it was evicted" in session.provisioner.reason


def test_a_node_that_is_lost(cluster: Cluster, install: Install, start: Start) -> None:
    """The kernel is unreachable while its pod may be there, and lost when Kubernetes gives it up.

    That sets a taint on a lost node, but not on the only one of a cluster, so the test does.
    """
    session = start(install())
    kernel = session.kernel
    cluster.stop("kubelet")
    try:
        eventually(lambda: kernel.life.unreachable, 30)
        cluster.kube("taint", "nodes", "box", "lost=yes:NoExecute")
        eventually(lambda: kernel.life.over, 60)
        assert "its node was lost or drained" in session.provisioner.reason
    finally:
        cluster.kube("taint", "nodes", "box", "lost=yes:NoExecute-", check=False)
        cluster.start("kubelet")
        cluster.node_ready()


def test_a_kernel_that_needs_too_much_memory(
    cluster: Cluster, install: Install, start: Start
) -> None:
    session = start(install(memory="200Mi"))
    session.client.execute("x = bytearray(1 << 30)")
    eventually(lambda: session.kernel.life.over, 30)
    assert "memory" in session.provisioner.reason


def test_nothing_is_left_for_ever(cluster: Cluster, install: Install, start: Start) -> None:
    """The server never comes back: the lease ends the kernel, the agent ends, the pod completes."""
    session = start(install(client_lease=1.0))
    asyncio.run(session.provisioner.let_go())
    session.client.stop_channels()
    phase = ["-n", "lab", "get", "pods", "-o", "jsonpath={.items[0].status.phase}"]
    eventually(lambda: cluster.kube(*phase) == "Succeeded", 180)
    cluster.kube("-n", "lab", "delete", "pods", "--all")


def _image(pod: dict[str, Any], image: str, pull: str = "IfNotPresent") -> None:
    pod["spec"]["containers"][0] |= {"image": image, "imagePullPolicy": pull}


def test_no_node_has_room(cluster: Cluster, install: Install, start: Start) -> None:
    error = failure(start, install(memory="4000Gi", launch_timeout=15.0))
    assert isinstance(error, LaunchTimeoutError)
    words = " ".join(str(error).split())
    assert "no node has room: 0/1 nodes are available: 1 Insufficient memory" in words


def test_an_image_that_cannot_be_pulled(cluster: Cluster, install: Install, start: Start) -> None:
    """The image's registry does not answer. After the first try, the kubelet waits before each
    other try (ImagePullBackOff). The status then says that the kubelet waits, but not why.
    """
    name = install(lambda pod: _image(pod, "127.0.0.1:1/absent:1"), launch_timeout=60.0)
    started = InBackground(name)
    told: list[str] = []

    def backs_off() -> bool:
        said = getattr(started.manager.provisioner, "reason", "")
        if said and said not in told:
            told.append(said)
        reason = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"
        shown = cluster.kube("-n", "lab", "get", "pods", "-o", reason)
        return shown == "ImagePullBackOff" and "Back-off" in said

    try:
        eventually(backs_off, 60)
    finally:
        io_thread().call_blocking(_cancel(), 10)
        assert isinstance(started.over(), StartCancelledError)
    assert all("cannot pull the image 127.0.0.1:1/absent:1" in said for said in told[-2:]), told
    assert any("connection refused" in said for said in told), told


async def _cancel() -> None:
    for start in starts().under_way:
        starts().cancel(start.kernel_id)


def test_an_image_that_is_not_there(cluster: Cluster, install: Install, start: Start) -> None:
    error = failure(start, install(lambda pod: _image(pod, "absent:1", "Never")))
    assert isinstance(error, KernelStartError)
    assert "the image absent:1 is not on the node" in str(error)


def test_an_image_without_python(cluster: Cluster, install: Install, start: Start) -> None:
    error = failure(start, install(python="/opt/no/python"))
    assert f"the image {IMAGE} has no /opt/no/python" in " ".join(str(error).split())


def test_a_quota(cluster: Cluster, install: Install, start: Start) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": "lab"},
        "spec": {"hard": {"pods": "0"}},
    }
    cluster.apply(quota)
    used = ["-n", "lab", "get", "quota", "none", "-o", "jsonpath={.status.hard.pods}"]
    eventually(lambda: cluster.kube(*used) == "0")
    try:
        error = failure(start, install())
    finally:
        cluster.kube("-n", "lab", "delete", "quota", "none")
    assert "the namespace lab has no room" in str(error)
    assert "exceeded quota: none" in str(error)


def test_an_account_without_the_role(cluster: Cluster, install: Install, start: Start) -> None:
    error = failure(start, install(namespace="kube-system"))
    assert isinstance(error, AuthenticationError)
    assert "Role in docs/kubernetes.md" in str(error)


def test_a_claim(cluster: Cluster, install: Install, start: Start) -> None:
    """A persistent volume outlives the pods, and can be read-only in some."""
    directory = cluster.directory / "claimed"
    directory.mkdir()
    size = {"storage": "1Gi"}
    volume = {
        "capacity": size,
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "hostPath": {"path": str(directory)},
    }
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "alices"}
    claim |= {"resources": {"requests": size}}
    named = {"name": "home-alice", "namespace": "lab"}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "alices"},
            "spec": volume,
        },
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": named, "spec": claim},
    )
    try:
        env = {"KERNEL_USERNAME": "alice"}
        session = start(install(volumes=["home-{username}:/home/alice"]), env=env)
        session.run("open('/home/alice/kept', 'w').write('17')")
        session.manager.shutdown_kernel()
        session = start(install(volumes=["home-{username}:/home/alice:ro"]), env=env)
        assert session.value("open('/home/alice/kept').read()") == "17"
        assert "Read-only" in session.run("open('/home/alice/kept', 'w')")
        session.manager.shutdown_kernel()
    finally:
        cluster.kube("-n", "lab", "delete", "--wait=false", "pvc/home-alice", "pv/alices")


def test_a_token_that_is_not_valid(
    cluster: Cluster, install: Install, start: Start, tmp_path: Path
) -> None:
    wrong = tmp_path / "kubeconfig"
    wrong.write_text(cluster.kubeconfig.read_text().replace(cluster.user_token, "wrong"))
    error = failure(start, install(kubeconfig=str(wrong)))
    assert isinstance(error, AuthenticationError)
    assert "Kubernetes does not know us (401)" in str(error)


def test_no_api(cluster: Cluster, install: Install, start: Start, tmp_path: Path) -> None:
    wrong = tmp_path / "kubeconfig"
    wrong.write_text(cluster.kubeconfig.read_text().replace(f":{cluster.port}", ":1"))
    error = failure(start, install(kubeconfig=str(wrong)))
    assert isinstance(error, UnreachableError)
    assert "Kubernetes' API at https://127.0.0.1:1 does not answer" in str(error)


def test_no_kubeconfig(cluster: Cluster, install: Install, start: Start) -> None:
    error = failure(start, install(kubeconfig="/no/kubeconfig"))
    assert isinstance(error, ConfigurationError)
    assert "kubeconfig" in str(error)


def test_the_doctor(cluster: Cluster, install: Install) -> None:
    code, said = doctor(install())
    assert code == 0, said
    for text in ("v1.30.14 answers at", "in the namespace lab", "answers on kernel-"):
        assert text in said
    code, said = doctor(install(namespace="default"))
    assert code == 1
    assert "in the namespace default, the account may not create pods" in said


def test_a_completed_pod(cluster: Cluster, install: Install, start: Start) -> None:
    """It is what a killed server leaves in the end. The next start in the namespace deletes it."""
    pod = template()
    labels = {"app.kubernetes.io/managed-by": "remote-provisioners"}
    pod |= {"apiVersion": "v1", "metadata": {"name": "left", "namespace": "lab", "labels": labels}}
    pod["spec"]["schedulerName"] = "nobody"  # no kubelet writes its status
    cluster.apply(pod)
    ended = {"exitCode": 0, "finishedAt": "2020-01-01T00:00:00Z"}
    fields = {"image": IMAGE, "imageID": "", "ready": False, "restartCount": 0}
    status = {"name": "kernel", "state": {"terminated": ended}, **fields}
    patch = json.dumps({"status": {"phase": "Succeeded", "containerStatuses": [status]}})
    cluster.kube("-n", "lab", "patch", "pod", "left", "--subresource=status", "-p", patch)
    session = start(install())
    eventually(lambda: cluster.pods() == [session.host], 20)
