"""Leases: how long kernels live on without the server that owns them. No I/O.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Dict, Iterable, Optional, Set


class Leases:
    """Since when each owner is away. One that never connected is away since it was first noted."""

    def __init__(self) -> None:
        self._away: Dict[str, float] = {}

    def note(self, owners: Iterable[str], present: Set[str], now: float) -> None:
        """Note which `owners` of kernels are `present` at the time `now`."""
        away = set(owners) - present
        self._away = {owner: self._away.get(owner, now) for owner in away}

    def left(self, owner: str, lease: float, now: float) -> Optional[float]:
        """Seconds left of the lease of a kernel of `owner`; negative once it is over.

        None while the owner is connected: that renews the lease.
        """
        since = self._away.get(owner)
        return None if since is None else since + lease - now
