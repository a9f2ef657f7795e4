"""Where a kernel lands. Pure: policies over a table of hosts, no I/O.

A policy is a class of one method. Others are installed by an entry point in the group
``remote_provisioners.load_balancers``, whose name is what ``load_balancing_algorithm`` says.
"""

from __future__ import annotations

import functools
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from ..errors import ConfigurationError, NoRoomError

GROUP = "remote_provisioners.load_balancers"

#: Above this load a core, or with less than this part of its memory left, a host is busy.
_BUSY_LOAD = 1.0
_BUSY_MEMORY = 0.1
#: Loads a core that differ by less are no reason for a choice: they are a minute's average.
_SAME_LOAD = 0.5


@dataclass(frozen=True)
class Load:
    """What an agent reports of its host."""

    cores: int
    #: Mean number of running processes over the last minute.
    load: float
    #: Bytes.
    memory: int
    memory_available: int
    #: Kernels of other servers and users there, as far as the agent can see.
    others: int
    #: Kernels of everybody there, ours included.
    kernels: int = 0
    #: The devices that kernels have, everybody's.
    gpus_taken: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        return (
            self.load / self.cores > _BUSY_LOAD
            or self.memory_available < _BUSY_MEMORY * self.memory
        )


@dataclass(frozen=True)
class HostRow:
    """What a policy knows of a host.

    `kernels` are those of this server, starts in flight counted; `load` is None as long as the
    agent has not reported.
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
        """Kernels there, whoever's they are, as far as is known."""
        return self.kernels + (self.load.others if self.load is not None else 0)

    @property
    def fullness(self) -> str:
        return f"{self.occupied} of {self.capacity} kernels"

    @property
    def full(self) -> bool:
        return self.capacity is not None and self.occupied >= self.capacity


@dataclass(frozen=True)
class Requirements:
    """What a start request asks of a host: labels that it has to carry, GPUs to be given."""

    labels: frozenset[str] = frozenset()
    gpus: int = 0

    def fits(self, row: HostRow) -> bool:
        return self.labels <= row.labels and self.gpus <= row.gpus

    def __str__(self) -> str:
        words = [f"labels {', '.join(sorted(self.labels))}"] if self.labels else []
        words += [f"{self.gpus} GPUs"] if self.gpus else []
        return " and ".join(words)


class LoadBalancer(ABC):
    """A policy: no state of its own, what it needs is in the table."""

    #: Whether the table's `load` is to be fresh: it is asked for before each start then.
    needs_load = False

    @abstractmethod
    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        """The host for the next kernel.

        `table` has at least one row, in the order of the configuration: the hosts that fit the
        request, have room and work. `starts` counts the starts before this one on
        the same list of hosts by this server.
        """


class RoundRobin(LoadBalancer):
    """Each host in turn, one of weight 2 twice as often."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        turns = _turns(tuple(row.weight for row in table))
        return table[turns[starts % len(turns)]].host


@functools.lru_cache(maxsize=64)
def _turns(weights: tuple[float, ...]) -> Sequence[int]:
    """Positions in a round: one of weight w has w places, spread evenly over it."""
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
    """The host with the fewest kernels a core, whoever's they are, busy hosts last.

    By chance among those that are as good: servers that choose at the same moment know nothing
    of each other, and would all take the same one.
    """

    needs_load = True

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        burdens = {row.host: _burden(row) for row in table}
        busy, kernels, load = min(burdens.values())
        best = [
            host
            for host, burden in burdens.items()
            if burden[:2] == (busy, kernels) and burden[2] <= load + _SAME_LOAD
        ]
        return random.choice(best)  # noqa: S311


def _burden(row: HostRow) -> tuple[bool, float, float]:
    if row.load is None:
        return (False, row.kernels / row.weight, 0.0)
    cores = row.load.cores * row.weight
    return (row.load.busy, row.occupied / cores, row.load.load / cores)


class Fill(LoadBalancer):
    """The first host of the list that has room: the next one only when it is full."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        return table[0].host


@functools.cache
def load_balancers() -> Mapping[str, EntryPoint]:
    """The installed policies by name; one that cannot be imported is no matter to the others."""
    return {found.name: found for found in entry_points(group=GROUP)}


def load_balancer(name: str) -> LoadBalancer:
    """The policy of this name. Raises ConfigurationError that lists the known ones."""
    known = load_balancers()
    if name not in known:
        raise ConfigurationError(
            f"unknown load balancing algorithm {name!r} (known: {', '.join(sorted(known))})"
        )
    policy: type[LoadBalancer] = known[name].load()
    return policy()


def candidates(table: Sequence[HostRow], requirements: Requirements) -> list[HostRow]:
    """The hosts that a kernel may go to.

    Raises NoRoomError: no host meets the requirements, or all that do are full.
    """
    fitting = (
        [row for row in table if requirements.fits(row)]
        if requirements != Requirements()
        else table
    )
    if not fitting:
        raise NoRoomError(f"no host has {requirements} (there are: {_offers(table)})")
    rows = [row for row in fitting if not row.full]
    if not rows:
        full = ", ".join(f"{row.host} has {row.fullness}" for row in fitting)
        raise NoRoomError(f"every host is full: {full}")
    return rows


def _offers(rows: Sequence[HostRow]) -> str:
    return "; ".join(
        f"{row.host} with {', '.join(sorted(row.labels)) or 'no labels'} and {row.gpus} GPUs"
        for row in rows
    )
