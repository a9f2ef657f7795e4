"""The table of hosts that placement reads: one row a host of an inventory, kept up to date."""

from __future__ import annotations

import asyncio
import random

from .host_address import HostAddress
from .inventory import HostSpec, Inventory
from .policies import HostRow, Load

#: Divisible by the lengths of many rounds, so that no host is more often the first one.
_MOST_TURNS = 5040


def first_turn() -> int:
    """Where a round begins: not with the first host of the list in each process, for a hub's
    servers have a kernel or two each.
    """
    return random.randrange(_MOST_TURNS)  # noqa: S311


class HostTable:
    """The rows of one inventory, and whose turn it is. No I/O.

    A row is made anew when something of its host has changed, not at each start.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.specs: dict[str, HostSpec] = {spec.name: spec for spec in inventory}
        self._rows = {spec.name: _row(spec, 0, None) for spec in inventory}
        self._at: dict[HostAddress, list[HostSpec]] = {}
        for spec in inventory:
            self._at.setdefault(spec.address, []).append(spec)
        self._starts = first_turn()
        #: When the hosts have last reported for a start (the loop's time), and who asks them now.
        self.refreshed = float("-inf")
        self.refreshing: asyncio.Future[None] | None = None

    def at(self, address: HostAddress) -> list[HostSpec]:
        """The hosts of this table that are at `address`: one, unless it is written in two ways."""
        return self._at.get(address, [])

    def turn(self) -> int:
        """The number of a start on this table. It stays the same when the start fails over."""
        self._starts += 1
        return self._starts - 1

    def update(self, name: str, kernels: int, load: Load | None) -> None:
        """Something has changed on a host; nothing to do where it is not of this table."""
        if name in self._rows:
            self._rows[name] = _row(self.specs[name], kernels, load)

    def rows(self, without: set[str]) -> list[HostRow]:
        """The rows in the order of the configuration, but for those `without`."""
        if not without:
            return list(self._rows.values())
        return [row for name, row in self._rows.items() if name not in without]


def _row(spec: HostSpec, kernels: int, load: Load | None) -> HostRow:
    return HostRow(
        host=spec.name,
        kernels=kernels,
        weight=spec.weight,
        capacity=spec.capacity,
        labels=spec.labels,
        gpus=len(spec.gpus),
        load=load,
    )
