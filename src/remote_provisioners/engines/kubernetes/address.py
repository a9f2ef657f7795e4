"""A pod's address."""

from __future__ import annotations

from dataclasses import dataclass

from ...placement.host_address import HostAddress


@dataclass(frozen=True)
class PodAddress(HostAddress):
    """A pod of Kubernetes for one kernel. `host` is its name."""

    namespace: str = ""
    container: str = ""
    #: The cluster: a kubeconfig and one of its contexts; "" for the usual ones.
    kubeconfig: str = ""
    context: str = ""

    connector = "engines.kubernetes.connection:connect_pod"

    @property
    def is_temporary(self) -> bool:
        return True
