"""Containers and pods: what is asked of Docker and Kubernetes, and what their answers mean."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from typing import Any

import pytest

from remote_provisioners.engines.docker.program import read_events
from remote_provisioners.engines.docker.program import read_state as docker
from remote_provisioners.engines.kubernetes.pod import PodOptions, manifest, read_state
from remote_provisioners.engines.main_process import main_process
from remote_provisioners.errors import ConfigurationError
from remote_provisioners.options.launch_request import LaunchRequest, build_request

from ..conftest import InstallSpec

TEMPLATE = {
    "metadata": {"labels": {"team": "a"}, "generateName": "x-"},
    "spec": {
        "containers": [
            {"name": "log", "image": "log:1"},
            {"name": "kernel", "image": "old:1", "args": ["x"], "env": [{"name": "A"}]},
        ],
        "nodeSelector": {"zone": "1"},
    },
}


def test_the_options_come_over_the_template() -> None:
    options = PodOptions(
        template=TEMPLATE,
        image="new:1",
        cpus="1",
        gpus="2",
        node_selector={"disk": "ssd"},
        volumes=["alice-home:/home/alice", "data:/data:ro"],
    )
    pod = manifest(options, "kernel-1", ["python3"], {"kernel": "k-1", "user": "not a label!"})
    assert TEMPLATE["metadata"] == {"labels": {"team": "a"}, "generateName": "x-"}
    assert pod["metadata"] == {
        "name": "kernel-1",
        "labels": {
            "team": "a",
            "app.kubernetes.io/managed-by": "remote-provisioners",
            "remote-provisioners/kernel": "k-1",
        },
    }
    spec = pod["spec"]
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
    assert spec["nodeSelector"] == {"zone": "1", "disk": "ssd"}
    other, kernel = spec["containers"]
    assert other == {"name": "log", "image": "log:1"}
    assert (kernel["image"], kernel["command"]) == ("new:1", ["python3"])
    assert "args" not in kernel
    assert kernel["env"] == [{"name": "A"}]
    assert kernel["resources"]["limits"] == {"cpu": "1", "nvidia.com/gpu": "2"}
    assert [m["mountPath"] for m in kernel["volumeMounts"]] == ["/home/alice", "/data"]
    claim = {"claimName": "data", "readOnly": True}
    assert spec["volumes"][1] == {"name": "claim-1", "persistentVolumeClaim": claim}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PodOptions(), "the option `image` is empty"),
        (PodOptions(image="a", volumes=["../x:/y"]), "is not CLAIM:/path"),
        (PodOptions(template={"spec": {"containers": "x"}}), "not a list of containers"),
    ],
)
def test_a_pod_that_cannot_be(options: PodOptions, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        manifest(options, "x", ["python3"], {})


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    containers = [{"name": "kernel", "image": "a:1", "command": ["python3"]}]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "kernel", "state": state}]}


def condition(kind: str, status: str, **more: Any) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, **more}]}


def test_what_a_pod_waits_for() -> None:
    scheduled = condition("PodScheduled", "False", reason="Unschedulable", message="0/1 nodes")
    assert read_state(pod(scheduled)).text == "no node has room: 0/1 nodes"
    waiting = container(waiting={"reason": "ImagePullBackOff", "message": "Back-off\nsaid"})
    assert read_state(pod(waiting)).text == "cannot pull the image a:1: Back-off said"
    assert not read_state(pod(waiting)).end
    final = container(waiting={"reason": "ErrImageNeverPull"})
    assert "the image a:1 is not on the node" in read_state(pod(final)).end
    assert read_state(pod({"phase": "Pending"})).text == "waits for a node"
    assert read_state(pod(container(running={"startedAt": "x"}))).running


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (container(terminated={"reason": "OOMKilled", "exitCode": 137}), "more memory"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low"}, "it was evicted: low"),
        (
            {"phase": "Failed", **condition("DisruptionTarget", "True", reason="DeletionByPodGC")},
            "its node is gone",
        ),
        ({"phase": "Failed", "reason": "NodeLost"}, "its node was lost"),
        (container(terminated={"exitCode": 3, "reason": "Error"}), "with exit code 3"),
        (
            container(terminated={"reason": "StartError", "message": "executable file not found"}),
            "the image a:1 has no python3",
        ),
    ],
)
def test_why_a_pod_has_ended(status: dict[str, Any], said: str) -> None:
    assert said in read_state(pod(status)).end


def test_a_pod_that_is_being_deleted() -> None:
    running = container(running={})
    assert read_state(pod(running, deletionTimestamp="now")).end == "it was deleted"


def test_why_a_container_has_ended() -> None:
    assert docker({"Status": "running"}).end == ""
    assert "more memory" in docker({"Status": "exited", "OOMKilled": True}).end
    assert docker({"Status": "exited", "ExitCode": 137}).end == "it was killed (SIGKILL)"
    assert "exit code 3" in docker({"Status": "exited", "ExitCode": 3}).end
    die = json.dumps({"Action": "die", "Actor": {"Attributes": {"exitCode": "137"}}})
    assert read_events(die) == "it was killed (SIGKILL)"
    assert "more memory" in read_events(json.dumps({"Action": "oom"}) + "\n" + die)
    assert read_events("") == read_events("nonsense") == ""
    podman = json.dumps({"Status": "died", "ContainerExitCode": 143})
    assert read_events(podman) == "it was told to end (SIGTERM)"


@pytest.mark.parametrize("shell", [False, True])
def test_the_main_process_means_the_same_to_a_shell(shell: bool) -> None:
    words = [*main_process(sys.executable, through_shell=shell)]
    argv = ["sh", "-c", "exec " + " ".join(words)] if shell else words
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for a server
        process.wait(1)
    process.terminate()
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, b"")


def request(**changes: Any) -> LaunchRequest:
    given = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    given |= {"kernel_id": "k", "spec_env": {}, "resource_dir": "", "request_env": {}, "cwd": None}
    given |= {"session": {}, "port_range": "0..0", "launch_timeout": 9.0}
    return build_request(**{**given, **changes})


def test_the_head_start() -> None:
    """One word, unless the template depends on the kernel, or the word would show values."""
    *_, word = main_process("/a/python", request())
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", word)
    assert len(word) < 24_000
    expected = json.loads(zlib.decompress(base64.b64decode(word)))
    assert (expected["argv"], expected["flags"]) == (["python", "-m", "ipykernel_launcher"], [])
    for changes in (
        {"spec_env": {"TOKEN": "s3cret"}},
        {"argv": ["R", "--slave", "-e", "IRkernel::main()"]},
        {"argv": ["{prefix}/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]},
        {"argv": ["python", "-m", "bash_kernel", "-f", "{connection_file}"]},
    ):
        assert len(main_process("", request(**changes))) == 5


@pytest.mark.long
def test_a_server_imports_the_client_of_kubernetes_early(install_spec: InstallSpec) -> None:
    """It takes over a second. Only a server with a kernelspec for Kubernetes does it."""
    stanza = {"provisioner_name": "kubernetes-provisioner", "config": {"image": "a"}}
    code = """
import sys
from jupyter_client.kernelspec import KernelSpecManager
from remote_provisioners.server.early_imports import import_for
import_for(KernelSpecManager())
print("kubernetes_asyncio" in sys.modules)
"""
    for name, metadata, imported in (
        ("plain", {}, "False"),
        ("pods", {"kernel_provisioner": stanza}, "True"),
    ):
        install_spec(name=name, spec={"metadata": metadata})
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip() == imported
