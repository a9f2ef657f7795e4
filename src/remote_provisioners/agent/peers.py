"""The servers that are connected to an agent, and who is told what.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, Iterator, Set

from .server_connection import Peer


class Peers:
    """Each is one connection of a server process."""

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
        """`peer` is that server, which has lost its earlier connection: sshd here may not know
        for minutes.
        """
        for other in self:
            if other.owner == owner and other is not peer:
                other.abort()
        peer.owner = owner

    @property
    def owners(self) -> Set[str]:
        """The servers that are there."""
        return {peer.owner for peer in self._peers}

    @property
    def attached(self) -> Set[str]:
        """The ids of kernels that somebody looks at."""
        return {kernel_id for peer in self._peers for kernel_id in peer.attached}

    def tell(self, owner: str, event: Any) -> None:
        """Tell the owner of a kernel, and who is attached to it."""
        for peer in self:
            if peer.owner == owner or event.kernel_id in peer.attached:
                peer.tell(event)
