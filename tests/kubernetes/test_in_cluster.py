"""A server in a pod: it has no kubeconfig, and uses the account of its own pod."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from ..conftest import IPYKERNEL, eventually
from .cluster import Cluster, template

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.long,
]

NAME = "server"
SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount"
# What an application does: start a kernel, use it, end it.
CODE = """
from jupyter_client.manager import KernelManager

manager = KernelManager(kernel_name="pod")
manager.start_kernel()
print("placed on", manager.provisioner.place)
client = manager.client()
client.start_channels()
client.execute_interactive("print(6 * 7)", timeout=60)
client.stop_channels()
manager.shutdown_kernel()
"""


def objects(cluster: Cluster) -> list[dict[str, Any]]:
    """The account with the Role of the docs, the server's files, and the server."""
    config = {"pod_template": "/server/pod.yaml", "python": sys.executable, "launch_timeout": 60.0}
    stanza = {"provisioner_name": "kubernetes-provisioner", "config": config}
    spec = {"argv": IPYKERNEL, "display_name": "pod", "language": "python"}
    spec["metadata"] = {"kernel_provisioner": stanza}
    files = {
        "pod.yaml": json.dumps(template()),
        "kernel.json": json.dumps(spec),
        "ca.crt": (cluster.directory / "certs/apiserver.crt").read_text(),
    }
    server = template()
    paths = [{"key": "pod.yaml", "path": "pod.yaml"}]
    paths += [{"key": "kernel.json", "path": "kernels/pod/kernel.json"}]
    mine = {"fieldRef": {"fieldPath": "metadata.namespace"}, "path": "namespace"}
    token = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": NAME, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [mine]}},
    ]
    server["spec"]["volumes"] += [
        {"name": "files", "configMap": {"name": NAME, "items": paths}},
        {"name": "token", "projected": {"sources": token}},
    ]
    container = server["spec"]["containers"][0]
    container["volumeMounts"] += [
        {"name": "files", "mountPath": "/server"},
        {"name": "token", "mountPath": SECRETS},
    ]
    variables = {"JUPYTER_PATH": "/server", "HOME": "/root", "PATH": "/usr/bin"}
    variables |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}
    variables |= {"KUBERNETES_SERVICE_PORT": str(cluster.port)}
    container["env"] = [{"name": name, "value": value} for name, value in variables.items()]
    container["command"] = [sys.executable, "-c", CODE]
    # The API listens on this machine's own address only.
    server["spec"] |= {"serviceAccountName": NAME, "hostNetwork": True, "restartPolicy": "Never"}
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": "lab"}
    role = {"kind": "Role", "name": "remote-provisioners", "apiGroup": "rbac.authorization.k8s.io"}
    named = {"name": NAME, "namespace": "lab"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": named,
            "roleRef": role,
            "subjects": [subject],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": files},
        {"apiVersion": "v1", **server, "metadata": named},
    ]


def test_the_account_of_the_servers_own_pod(cluster: Cluster) -> None:
    cluster.apply(*objects(cluster))
    pod = ["-n", "lab", "get", "pod", NAME, "-o", "jsonpath={.status.phase}"]
    try:
        phase = eventually(lambda: {cluster.kube(*pod)} & {"Succeeded", "Failed"}, 120)
        said = cluster.kube("-n", "lab", "logs", NAME)
        assert phase == {"Succeeded"}, said
        assert "placed on kernel-" in said
        assert "42" in said.split()
        assert cluster.pods() == [NAME]
    finally:
        kinds = f"pod/{NAME} configmap/{NAME} serviceaccount/{NAME} rolebinding/{NAME}"
        cluster.kube("-n", "lab", "delete", "--force", *kinds.split())
