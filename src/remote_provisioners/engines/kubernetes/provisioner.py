"""KubernetesProvisioner: kernels in pods."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from traitlets import Dict, Unicode

from ...contract import RemoteProvisioner
from ...errors import ConfigurationError
from ...options.kinds import Names, Table, Tables, Text
from ...options.launch_request import LaunchRequest
from ...placement.placer import Placer
from ..option_checks import check_python, with_username
from ..placer import EnginePlacer
from .cluster import Access
from .engine import KubernetesEngine
from .pod import PodOptions, manifest

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?")


class KubernetesProvisioner(RemoteProvisioner):
    """Starts each kernel in a separate pod, from an image with the kernel."""

    slow_imports = ("kubernetes_asyncio",)

    pod_template = Text(
        "",
        help="""The path of a pod's manifest in YAML, on this machine. The other options override
        it. The kernel's container is the one named kernel, or the first. Empty: no template.""",
    ).tag(config=True)

    image = Text(
        "",
        help="""The image of the kernel's container. It must have Python 3.8 or later and the
        kernel. It does not need this package.""",
    ).tag(config=True)

    namespace = Text(
        "",
        help="""The namespace of the pods. Empty: the namespace of the kubeconfig's context, or of
        the server's own pod.""",
    ).tag(config=True)

    service_account = Text(
        "",
        help="""The service account of the pods. Empty: the namespace's default account, and the
        pod does not get its token.""",
    ).tag(config=True)

    cpus = Text("", help="""The container's cores, such as 2 or 500m.""").tag(config=True)

    memory = Text("", help="""The container's memory, such as 4Gi.""").tag(config=True)

    gpus = Text("", help="""The number of NVIDIA GPUs.""").tag(config=True)

    node_selector = Table(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""The labels that a node must have, as a table.""",
    ).tag(config=True)

    tolerations = Tables(
        trait=Dict(),
        help="""Tolerations of taints, as a list of tables like those in a manifest.""",
    ).tag(config=True)

    volumes = Names(
        trait=Unicode(),
        help="""Persistent volume claims to mount: CLAIM:/path or CLAIM:/path:ro. {username} is
        replaced with the request's KERNEL_USERNAME, otherwise the server's user. Other kinds of
        volumes belong in the template.""",
    ).tag(config=True)

    python = Text(
        "",
        help="""The interpreter in the image that runs the agent and Python kernels, such as
        /opt/conda/bin/python. Empty: python3 on the image's PATH.""",
    ).tag(config=True)

    kubeconfig = Text(
        "",
        help="""The path of the kubeconfig. Empty: KUBECONFIG or ~/.kube/config; without those, the
        account of the server's own pod.""",
    ).tag(config=True)

    kube_context = Text("", help="""The context of the kubeconfig. Empty: its current one.""").tag(
        config=True
    )

    def _make_placer(self) -> Placer:
        return EnginePlacer(self, KubernetesEngine)

    def _check_options(self) -> None:
        super()._check_options()
        for name in ("namespace", "service_account"):
            value = getattr(self, name)
            if value and not _NAME.fullmatch(value):
                raise ConfigurationError(f"{name} is {value!r}, must be a name in Kubernetes")
        for name in ("cpus", "memory", "gpus"):
            value = getattr(self, name)
            if value and not _QUANTITY.fullmatch(value):
                raise ConfigurationError(f"{name} is {value!r}, must be like 2, 500m or 4Gi")
        check_python(self.python)
        manifest(self._options({"spec": {"containers": [{"image": "checked"}]}}), "x", (), {})

    def engine(self, request: LaunchRequest | None) -> KubernetesEngine:
        """Kubernetes for this request. Raises ConfigurationError."""
        kubeconfig = os.path.expanduser(self.kubeconfig) if self.kubeconfig else ""
        access = Access(kubeconfig, self.kube_context)
        options = self._options(self._template())
        return KubernetesEngine(access, options, self.namespace, self.python)

    def _options(self, template: Mapping[str, Any]) -> PodOptions:
        return PodOptions(
            template=template,
            image=self.image,
            service_account=self.service_account,
            cpus=self.cpus,
            memory=self.memory,
            gpus=self.gpus,
            node_selector=self.node_selector,
            tolerations=self.tolerations,
            volumes=with_username("volumes", self.volumes, self.username),
        )

    def _template(self) -> Mapping[str, Any]:
        """The operator's manifest. Raises ConfigurationError."""
        if not self.pod_template:
            return {}
        import yaml  # noqa: PLC0415 # comes with the extra `kubernetes`

        path = os.path.expanduser(self.pod_template)
        try:
            with open(path, encoding="utf-8") as file:
                found = yaml.safe_load(file)
        except (OSError, ValueError, yaml.YAMLError) as error:
            said = " ".join(str(error).split())
            raise ConfigurationError(f"cannot read pod_template {path}:\n{said}") from None
        if not isinstance(found, dict) or found.get("kind", "Pod") != "Pod":
            raise ConfigurationError(f"pod_template {path} is not the manifest of a pod")
        return found
