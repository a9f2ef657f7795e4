"""Policies that choose a kernel's host from a table. Pure.

A policy is a class with one method. Other packages add policies through entry points in the group
``remote_provisioners.load_balancers``. The name of the entry point is the value of
``load_balancing_algorithm``.
"""

from __future__ import annotations

import functools
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from ..errors import ConfigurationError, NoRoomError

GROUP = "remote_provisioners.load_balancers"

#: A host is busy above this load per core, or with less than this share of its memory free.
_BUSY_LOAD = 1.0
_BUSY_MEMORY = 0.1
#: Loads a core that differ by less are no reason for a choice: they are a minute's average.
_SAME_LOAD = 0.5


@dataclass(frozen=True)
class Load:
    """An agent's report of its host."""

    cores: int
    #: Mean number of running processes over the last minute.
    load: float
    #: Bytes.
    memory: int
    memory_available: int
    #: Kernels of other servers and users, as far as the agent can see.
    others: int
    #: All kernels, including ours.
    kernels: int = 0
    #: The devices that any kernel has.
    gpus_taken: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        return (
            self.load / self.cores > _BUSY_LOAD
            or self.memory_available < _BUSY_MEMORY * self.memory
        )


@dataclass(frozen=True)
class HostRow:
    """What a policy knows about a host.

    `kernels` counts this server's kernels, including starts in progress. `load` is None until the
    agent reports.
    """

    host: str
    kernels: int = 0
    weight: float = 1.0
    capacity: int | None = None
    labels: frozenset[str] = frozenset()
    gpus: int = 0
    load: Load | None = None

    @property
    def occupied(self) -> int:
        """All known kernels on the host, of any server and user."""
        return self.kernels + (self.load.others if self.load is not None else 0)

    @property
    def fullness(self) -> str:
        return f"{self.occupied} of {self.capacity} kernels"

    @property
    def full(self) -> bool:
        return self.capacity is not None and self.occupied >= self.capacity


@dataclass(frozen=True)
class Requirements:
    """A start request's requirements of a host: labels and GPUs."""

    labels: frozenset[str] = frozenset()
    gpus: int = 0

    def fits(self, row: HostRow) -> bool:
        return self.labels <= row.labels and self.gpus <= row.gpus

    def __str__(self) -> str:
        words = [f"labels {', '.join(sorted(self.labels))}"] if self.labels else []
        words += [f"{self.gpus} GPUs"] if self.gpus else []
        return " and ".join(words)


class LoadBalancer(ABC):
    """A policy. It has no state; the table contains everything that it needs."""

    #: Whether the policy needs a fresh `load`. If so, hosts report before each start.
    needs_load = False

    @abstractmethod
    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        """The host for the next kernel.

        `table` has at least one row, in the order of the configuration. Its hosts meet the
        requirements, have room and work. `starts` counts this server's earlier starts on the same
        list of hosts.
        """


class RoundRobin(LoadBalancer):
    """Each host in turn. A host of weight 2 gets twice as many turns."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        turns = _turns(tuple(row.weight for row in table))
        return table[turns[starts % len(turns)]].host


@functools.lru_cache(maxsize=64)
def _turns(weights: tuple[float, ...]) -> Sequence[int]:
    """Positions in a round. A host of weight w has w places, spread evenly."""
    least = min(weights)
    places = sorted(
        ((number + 0.5) / weight, position)
        for position, weight in enumerate(weights)
        for number in range(round(weight / least))
    )
    return [position for _, position in places]


class LeastConnection(LoadBalancer):
    """The host with the fewest kernels, as far as is known; the first of those in the list."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        return min(table, key=lambda row: row.occupied / row.weight).host


class LeastLoad(LoadBalancer):
    """The host with the fewest kernels per core, of all users. Hosts that have not reported in time
    (they may be down) come after those that have, and busy hosts come last.

    Chooses at random among equally good hosts. Otherwise all servers that choose at the same moment
    would take the same host, because they do not know of each other.
    """

    needs_load = True

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        burdens = {row.host: _burden(row) for row in table}
        group, kernels, load = min(burdens.values())
        best = [
            host
            for host, burden in burdens.items()
            if burden[:2] == (group, kernels) and burden[2] <= load + _SAME_LOAD
        ]
        return random.choice(best)  # noqa: S311


def _burden(row: HostRow) -> tuple[int, float, float]:
    """Hosts that are not busy come first, then those that have not reported, then busy ones."""
    if row.load is None:
        return (1, row.kernels / row.weight, 0.0)
    cores = row.load.cores * row.weight
    return (2 if row.load.busy else 0, row.occupied / cores, row.load.load / cores)


class Fill(LoadBalancer):
    """The first host of the list that has room. The next one is used only when it is full."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        return table[0].host


@functools.cache
def load_balancers() -> Mapping[str, EntryPoint]:
    """The installed policies by name, not yet imported, so a broken one affects no other."""
    return {found.name: found for found in entry_points(group=GROUP)}


def load_balancer(name: str) -> LoadBalancer:
    """The policy of this name. Raises ConfigurationError that lists the known names."""
    known = load_balancers()
    if name not in known:
        raise ConfigurationError(
            f"unknown load balancing algorithm {name!r} (known: {', '.join(sorted(known))})"
        )
    policy: type[LoadBalancer] = known[name].load()
    return policy()


def candidates(table: Sequence[HostRow], requirements: Requirements) -> list[HostRow]:
    """The hosts that may run a kernel.

    Raises NoRoomError if no host meets the requirements or all that do are full.
    """
    fitting = (
        [row for row in table if requirements.fits(row)]
        if requirements != Requirements()
        else table
    )
    if not fitting:
        raise no_host_fits(table, requirements)
    rows = [row for row in fitting if not row.full]
    if not rows:
        raise every_host_full((row.host, row.fullness) for row in fitting)
    return rows


def no_host_fits(table: Sequence[HostRow], requirements: Requirements) -> NoRoomError:
    """The error."""
    return NoRoomError(f"no host has {requirements} (available: {_offers(table)})")


def every_host_full(hosts: Iterable[tuple[str, str]]) -> NoRoomError:
    """The error. `hosts`: each with the number of its kernels in words."""
    full = ", ".join(f"{host} has {fullness}" for host, fullness in hosts)
    return NoRoomError(f"every host is full: {full}")


def _offers(rows: Sequence[HostRow]) -> str:
    return "; ".join(
        f"{row.host} with {', '.join(sorted(row.labels)) or 'no labels'} and {row.gpus} GPUs"
        for row in rows
    )
