"""DistributedProvisioner: kernels on a list of hosts."""

from __future__ import annotations

from .contract import RemoteProvisioner
from .options.config import RemoteProvisionerConfigMixin
from .placement.host_placer import HostPlacer
from .placement.placer import Placer


class DistributedProvisioner(RemoteProvisionerConfigMixin, RemoteProvisioner):  # type: ignore[metaclass]
    """Starts kernels on a set of hosts, without an engine."""

    def _make_placer(self) -> Placer:
        return HostPlacer(self)

    def _kept_warm(self) -> int:
        return int(self.warm)
