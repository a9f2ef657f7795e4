"""The servers that are connected to an agent, and which of them get an event.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, Iterator, Set

from .peer import Peer


class Peers:
    """The connected servers; each Peer is the connection of one server process."""

    def __init__(self) -> None:
        self._peers: Set[Peer] = set()

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers))

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, peer: Peer) -> None:
        self._peers.add(peer)

    def remove(self, peer: Peer) -> None:
        self._peers.discard(peer)

    def greet(self, peer: Peer, owner: str) -> None:
        """`peer` is the connection of server `owner` from now on. Drop that server's earlier one:
        it is broken, but sshd here may not notice for minutes.
        """
        for other in self:
            if other.owner == owner and other is not peer:
                other.abort()
        peer.owner = owner

    @property
    def owners(self) -> Set[str]:
        """The servers that are connected."""
        return {peer.owner for peer in self._peers}

    @property
    def attached(self) -> Set[str]:
        """The ids of kernels that a server is attached to."""
        return {kernel_id for peer in self._peers for kernel_id in peer.attached}

    def tell(self, owner: str, event: Any) -> None:
        """Send an event of a kernel to its owner and to every server attached to it."""
        for peer in self:
            if peer.owner == owner or event.kernel_id in peer.attached:
                peer.tell(event)
