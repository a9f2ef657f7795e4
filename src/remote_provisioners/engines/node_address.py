"""The address of a node whose launcher reports to this server."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..placement.host_address import HostAddress


@dataclass(frozen=True)
class NodeAddress(HostAddress):
    """A launcher on a node without a login: its address and its secret."""

    secret: str = field(default="", repr=False)

    connector = "engines.node_transport:connect_node"

    @property
    def brings_agent(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.host
