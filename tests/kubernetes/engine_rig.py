"""Kubernetes in the conformance suite."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from ..conftest import Session
from ..engines.rig import EngineRig, Limit
from .cluster import Cluster, template, unavailable


class KubernetesRig(EngineRig):
    """A cluster with one node, which is this machine."""

    provisioner = "kubernetes-provisioner"
    down_text = r"Kubernetes' API at \S+ does not answer"
    short_wait: ClassVar = {"launch_timeout": 10.0}  # the scheduler says why, when it has time
    full_text = r"no node has room"
    limit = Limit(r"memory", {"memory": "300Mi"}, "x = bytearray(1 << 30)")

    @staticmethod
    def unavailable() -> str:
        return unavailable()

    def open(self) -> None:
        self.cluster = Cluster()
        self.cluster.open()
        self._template = self.cluster.directory / "pod.yaml"
        self._template.write_text(json.dumps(template()))

    def close(self) -> None:
        self.cluster.close()

    def options(self) -> dict[str, Any]:
        return {
            "pod_template": str(self._template),
            "kubeconfig": str(self.cluster.kubeconfig),
            "python": sys.executable,
            "launch_timeout": 60.0,
        }

    def jobs(self) -> list[str]:
        return sorted(self.cluster.pods())

    def run(self, session: Session, argv: Sequence[str]) -> str:
        return self.cluster.kube("-n", "lab", "exec", session.host, "--", *argv)

    def down(self) -> AbstractContextManager[None]:
        return self.cluster.lost()

    def full(self) -> AbstractContextManager[None]:
        return self.cluster.full()
