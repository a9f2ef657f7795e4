"""A kernel's pod: its manifest, and the meaning of its status. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigurationError

#: The label that finds our pods, also leftovers.
MANAGER = "remote-provisioners"
SELECTOR = f"app.kubernetes.io/managed-by={MANAGER}"
#: The container of the kernel in a template with several.
CONTAINER = "kernel"

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VOLUME = re.compile(r"([a-z0-9][a-z0-9.-]*):(/[^:\0]*)(:ro)?")
_OUT_OF_MEMORY = "it used more memory than its limit allows (option `memory`)"
_NO_PROGRAM = re.compile(r"executable file|no such file or directory", re.IGNORECASE)
#: Reasons why a container does not start although its pod has a node.
_WAITING = {
    "ErrImagePull": "cannot pull the image {image}",
    "ImagePullBackOff": "cannot pull the image {image}",
    "ErrImageNeverPull": "the image {image} is not on the node, and the template forbids a pull",
    "InvalidImageName": "{image} is not a valid name of an image",
    "CreateContainerConfigError": "the container cannot be configured",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container does not start",
}
#: The reasons that do not pass by themselves.
_FINAL = ("ErrImageNeverPull", "InvalidImageName")
_DISRUPTIONS = {
    "PreemptionByScheduler": "another pod with a higher priority needed its place (preemption)",
    "DeletionByTaintManager": "its node was lost or drained",
    "EvictionByEvictionAPI": "it was evicted, for example because its node was drained",
    "TerminationByKubelet": "its node was short of resources, or shut down",
    "DeletionByPodGC": "its node is gone",
}


@dataclass(frozen=True)
class PodOptions:
    """A kernelspec's options for its pods, besides the template."""

    template: Mapping[str, Any] = field(default_factory=dict)
    image: str = ""
    service_account: str = ""
    cpus: str = ""
    memory: str = ""
    gpus: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[str] = ()


def manifest(
    options: PodOptions, name: str, command: Sequence[str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """The pod: the template, with the options over it. Raises ConfigurationError."""
    pod: dict[str, Any] = copy.deepcopy(dict(options.template))
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    metadata = pod.setdefault("metadata", {})
    metadata.pop("generateName", None)
    metadata["name"] = name
    own = {"app.kubernetes.io/managed-by": MANAGER}
    own |= {f"{MANAGER}/{key}": value for key, value in labels.items() if _LABEL.fullmatch(value)}
    metadata["labels"] = {**(metadata.get("labels") or {}), **own}
    spec = pod.setdefault("spec", {})
    spec["restartPolicy"] = "Never"
    spec.setdefault("terminationGracePeriodSeconds", 2)
    spec.setdefault("enableServiceLinks", False)
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    spec.setdefault("automountServiceAccountToken", bool(options.service_account))
    if options.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **options.node_selector}
    if options.tolerations:
        spec["tolerations"] = [*(spec.get("tolerations") or []), *options.tolerations]
    container = kernel_container(pod)
    container.setdefault("name", CONTAINER)
    if options.image:
        container["image"] = options.image
    if not container.get("image"):
        raise ConfigurationError("the option `image` is empty, and so is the template's image")
    container["command"] = list(command)
    container.pop("args", None)
    _limit(container, options)
    for number, text in enumerate(options.volumes):
        _mount(spec, container, f"claim-{number}", text)
    return pod


def kernel_container(pod: dict[str, Any]) -> dict[str, Any]:
    """The container named kernel, or the first one. Raises ConfigurationError."""
    containers = pod.setdefault("spec", {}).setdefault("containers", [{}])
    if not isinstance(containers, list) or not all(isinstance(c, dict) for c in containers):
        raise ConfigurationError("the template's spec.containers is not a list of containers")
    containers = containers or [{}]
    pod["spec"]["containers"] = containers
    named = [each for each in containers if each.get("name") == CONTAINER]
    found: dict[str, Any] = (named or containers)[0]
    return found


def _limit(container: dict[str, Any], options: PodOptions) -> None:
    given = {"cpu": options.cpus, "memory": options.memory, "nvidia.com/gpu": options.gpus}
    given = {name: value for name, value in given.items() if value}
    if given:
        resources = container.setdefault("resources", {})
        for kind in ("limits", "requests"):
            resources[kind] = {**(resources.get(kind) or {}), **given}


def _mount(spec: dict[str, Any], container: dict[str, Any], name: str, text: str) -> None:
    match = _VOLUME.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"volumes: {text!r} is not CLAIM:/path or CLAIM:/path:ro")
    claim, path, read_only = match[1], match[2], bool(match[3])
    source = {"claimName": claim, "readOnly": read_only}
    spec["volumes"] = [
        *(spec.get("volumes") or []),
        {"name": name, "persistentVolumeClaim": source},
    ]
    mount = {"name": name, "mountPath": path, "readOnly": read_only}
    container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]


@dataclass(frozen=True)
class PodState:
    """The meaning of a pod's status. `end`: why it has ended; `text`: what it waits for."""

    running: bool
    text: str = ""
    end: str = ""


def read_state(pod: Mapping[str, Any]) -> PodState:
    """The state of a pod as the API gives it."""
    status = pod.get("status") or {}
    phase = status.get("phase", "")
    container = _kernel_status(pod)
    ended = (container.get("state") or {}).get("terminated")
    if phase in ("Failed", "Succeeded") or ended or pod["metadata"].get("deletionTimestamp"):
        return PodState(False, end=_end(pod, ended or {}))
    if (container.get("state") or {}).get("running"):
        return PodState(True)
    return _waiting(pod, container)


def _kernel_status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    name = kernel_container(copy.deepcopy(dict(pod))).get("name")
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == name:
            found: Mapping[str, Any] = status
            return found
    return {}


def _conditions(pod: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    listed = (pod.get("status") or {}).get("conditions") or []
    return {str(condition.get("type")): condition for condition in listed}


def _end(pod: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    status, conditions = pod.get("status") or {}, _conditions(pod)
    if ended.get("reason") == "OOMKilled":
        return _OUT_OF_MEMORY
    if status.get("reason") == "Evicted":
        return f"it was evicted: {_plain(status.get('message', ''))}"
    target = conditions.get("DisruptionTarget") or {}
    if target.get("status") == "True":
        reason = str(target.get("reason"))
        return _DISRUPTIONS.get(reason) or f"{reason}: {_plain(target.get('message', ''))}"
    if status.get("reason") == "NodeLost":
        return "its node was lost"
    if status.get("reason"):
        return f"{status['reason']}: {_plain(status.get('message', ''))}"
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return _not_started(pod, _plain(ended.get("message", "")))
    if ended:
        why = f" ({ended['reason']})" if ended.get("reason") not in (None, "Error") else ""
        return f"its main process ended with exit code {ended.get('exitCode')}{why}"
    return "it was deleted"


def _not_started(pod: Mapping[str, Any], said: str) -> str:
    container = kernel_container(copy.deepcopy(dict(pod)))
    if _NO_PROGRAM.search(said):
        return (
            f"the image {container.get('image')} has no {container['command'][0]}: a kernel's pod "
            "needs Python 3.8 or later (option `python`)"
        )
    return f"its container did not start: {said}"


def _waiting(pod: Mapping[str, Any], container: Mapping[str, Any]) -> PodState:
    waits = (container.get("state") or {}).get("waiting") or {}
    reason, said = str(waits.get("reason", "")), _plain(waits.get("message", ""))
    if reason in _WAITING:
        image = kernel_container(copy.deepcopy(dict(pod))).get("image", "")
        text = _WAITING[reason].format(image=image) + (f": {said}" if said else "")
        return PodState(False, text, end=text if reason in _FINAL else "")
    scheduled = _conditions(pod).get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        if scheduled.get("reason") == "Unschedulable":
            return PodState(False, f"no node has room: {_plain(scheduled.get('message', ''))}")
        return PodState(False, f"waits: {_plain(scheduled.get('message', ''))}")
    node = (pod.get("spec") or {}).get("nodeName", "")
    return PodState(False, f"starts on the node {node}" if node else "waits for a node")


def _plain(text: Any) -> str:
    """A message of Kubernetes' on one line."""
    words = " ".join(str(text or "").split())
    return words if len(words) <= 300 else words[:297] + "..."
