"""Ports of a host's loopback interface on which programs of the user listen.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Sequence

from .answers import Fallible
from .structure import Structure

#: The file of the socket in an agent's directory at which servers open ports.
PORT_SOCKET = "ports.sock"


class Port(Structure):
    """A port on which a process of a kernel listens."""

    number: int
    #: The process, and the name of its program.
    pid: int = 0
    program: str = ""
    #: Whether a person or a program has chosen it. The system hands out others by chance.
    chosen: bool = True


class OpenPort(Structure):
    """The server's first frame on a connection to a port."""

    kernel_id: str
    port: int


class PortOpened(Fallible):
    """The agent's answer. After one without an error the program's own bytes follow."""


class Ports(Structure):
    """The ports on which the processes of one kernel listen, without the kernel's own."""

    kernel_id: str
    ports: Sequence[Port] = ()


class PortsFound(Structure):
    kernels: Sequence[Ports] = ()
