"""Where a kernel lands. Pure: policies over a table of hosts, no I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .errors import ConfigurationError


@dataclass(frozen=True)
class HostRow:
    """What a policy knows of a host. `kernels` counts starts in flight as well."""

    host: str
    kernels: int


class LoadBalancer(ABC):
    """A policy. One method, no state of its own: what it needs is in the table."""

    @abstractmethod
    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        """The host for the next kernel.

        `table` has at least one row, in the order of the configuration; `starts` counts the
        kernels started before on this list of hosts by this server.
        """


class RoundRobin(LoadBalancer):
    """Each host in turn."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        return table[starts % len(table)].host


class LeastConnection(LoadBalancer):
    """The host with the fewest kernels of this server; the first of those in the list."""

    def choose(self, table: Sequence[HostRow], starts: int) -> str:
        return min(table, key=lambda row: row.kernels).host


LOAD_BALANCERS: dict[str, LoadBalancer] = {
    "least-connection": LeastConnection(),
    "round-robin": RoundRobin(),
}


def load_balancer(name: str) -> LoadBalancer:
    """The policy of this name. Raises ConfigurationError that lists the known ones."""
    try:
        return LOAD_BALANCERS[name]
    except KeyError:
        known = ", ".join(sorted(LOAD_BALANCERS))
        raise ConfigurationError(
            f"unknown load balancing algorithm {name!r} (known: {known})"
        ) from None


@dataclass
class Placement:
    """The kernels of this server by host, and the starts by list of hosts."""

    kernels: Counter[str] = field(default_factory=Counter)
    _starts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def place(self, hosts: Sequence[str], policy: LoadBalancer) -> str:
        """Choose a host and count the kernel there; `release` it when it ends or fails."""
        table = [HostRow(host, self.kernels[host]) for host in hosts]
        chosen = policy.choose(table, self._starts[tuple(hosts)])
        self._starts[tuple(hosts)] += 1
        self.occupy(chosen)
        return chosen

    def occupy(self, host: str) -> None:
        """Count a kernel that goes to `host` without asking a policy: it leaves turns alone."""
        self.kernels[host] += 1

    def release(self, host: str) -> None:
        """A kernel on `host` has ended, or did not start."""
        self.kernels[host] -= 1
        if self.kernels[host] <= 0:
            del self.kernels[host]
