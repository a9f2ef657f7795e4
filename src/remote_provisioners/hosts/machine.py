"""The machine that a host's name leads to. Pure.

A name may lead to several machines: login nodes share one, and the network chooses. After a reboot
it leads to the same machine, whose kernels are gone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple


class Machine(NamedTuple):
    """A machine since its boot. "": not known."""

    name: str = ""
    boot: str = ""

    def is_another(self, found: Machine) -> bool:
        """Whether `found` is another machine, as far as both are known.

        It is the same one after a reboot. A container that replaces another may have a new name,
        but has the boot of its machine.
        """
        known = all((*self, *found))
        return known and self.name != found.name and self.boot != found.boot

    def why_gone(self, found: Machine, otherwise: str = "") -> str:
        """Why the agent on `found` knows nothing of a kernel that ran here."""
        if self.is_another(found):
            return f"it ran on {self.name}, and the host's name leads to {found.name} now"
        if self.boot and found.boot and self.boot != found.boot:
            return "the host was rebooted"
        if self.boot and found.boot:
            return (
                otherwise or "nothing is left of it there: somebody removed its files, or ended it"
            )
        return (
            otherwise or "nothing is left of it there: the host was rebooted, or its files removed"
        )


def why_not(ours: AbstractSet[Machine], found: Machine) -> str:
    """Why to try again, rather than to use the machine that was found, with kernels on `ours`; ""
    to use it.
    """
    others = sorted(machine.name for machine in ours if machine.is_another(found))
    if not others or found in ours:
        return ""
    return (
        f"its name leads to {found.name} now, but its kernels are on {', '.join(others)}.\n"
        "In remote_hosts, use names that lead to one machine each"
    )
