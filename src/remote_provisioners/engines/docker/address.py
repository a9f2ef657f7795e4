"""A container's address."""

from __future__ import annotations

from dataclasses import dataclass

from ...placement.host_address import HostAddress


@dataclass(frozen=True)
class ContainerAddress(HostAddress):
    """A container for one kernel. `way` runs programs in it."""

    #: The words of the program that manages it, such as docker.
    program: tuple[str, ...] = ()

    connector = "engines.docker.connection:connect_container"

    @property
    def is_temporary(self) -> bool:
        return True
