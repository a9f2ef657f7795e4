"""The table of hosts for placement: one up-to-date row for each host of an inventory."""

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
    """The rows of one inventory and the count of starts. No I/O.

    A row is replaced when its host changes, not at each start.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.specs: dict[str, HostSpec] = {spec.name: spec for spec in inventory}
        self._rows = {spec.name: _row(spec, 0, None) for spec in inventory}
        self._at: dict[HostAddress, list[HostSpec]] = {}
        for spec in inventory:
            self._at.setdefault(spec.address, []).append(spec)
        self._starts = first_turn()
        #: When the hosts last reported for a start (the loop's time), and the request in progress.
        self.refreshed = float("-inf")
        self.refreshing: asyncio.Future[None] | None = None

    def at(self, address: HostAddress) -> list[HostSpec]:
        """The hosts of this table at `address`: one, unless the host is written in two ways."""
        return self._at.get(address, [])

    def turn(self) -> int:
        """The number of a start on this table. A start that fails over keeps its number."""
        self._starts += 1
        return self._starts - 1

    def update(self, name: str, kernels: int, load: Load | None) -> None:
        """Update the row of a host. Ignores hosts of other tables."""
        if name in self._rows:
            self._rows[name] = _row(self.specs[name], kernels, load)

    def rows(self, without: set[str]) -> list[HostRow]:
        """The rows in the order of the configuration, without the hosts in `without`."""
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
