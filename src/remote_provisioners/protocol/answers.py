"""What an agent answers, and why it refuses.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence

from .conventions import LEASE_SECONDS
from .structure import Structure


class Refusal(Structure):
    """Why the agent does not do what it was asked. `code` is one of those below."""

    code: str = ""
    message: str = ""


#: The request cannot be understood, or is not this server's to make.
BAD_REQUEST = "bad-request"
#: The versions of the two ends do not get on.
VERSION_REFUSED = "version"
#: A fault of the agent; its log has more.
INTERNAL = "internal"
#: The start was given up before it was over.
CANCELLED = "cancelled"
#: The host is to blame, another one may be tried.
HOST_FULL, NO_GPUS = "host-full", "no-gpus"
#: The kernel, its program or what was configured for it is to blame.
CANNOT_START, NO_PROGRAM, NO_PORTS = "cannot-start", "no-program", "no-ports"
HOOK_FAILED = "hook-failed"
#: Of a kernel that was started before: it is not here, or another server's that is connected.
NO_KERNEL, TAKEN = "no-kernel", "taken"
#: Of a stream that is over.
NO_STREAM = "no-stream"


class Fallible(Structure):
    """An answer that may be an error instead."""

    error: str = ""

    def fields(self) -> Dict[str, Any]:
        """Without the error where there is none: version 0 takes the field itself for one."""
        found = super().fields()
        if not self.error:
            del found["error"]
        return found


class Nothing(Structure):
    """It is done."""


class KernelDescription(Structure):
    """A kernel, as its agent describes it."""

    kernel_id: str
    #: None before its process runs.
    pid: Optional[int] = None
    #: Seconds since the epoch.
    started: Optional[float] = None
    #: How its process came to be: "spawned", "forked", "warm"; "" where that is not known.
    way: str = ""
    #: The devices that it has.
    gpus: Sequence[str] = ()
    cwd: str = ""
    home: str = ""
    #: What its connection file says; there is a key in it.
    connection: Mapping[str, Any] = {}
    listening: bool = False
    #: Negative for a signal; None while it runs.
    exit_code: Optional[int] = None
    #: The last lines that it printed, once it has ended.
    tail: str = ""
    #: Seconds that it lives on without its server.
    lease: float = LEASE_SECONDS
    #: Why the agent has ended it, "" if it has not.
    ended_by: str = ""

    @property
    def reason(self) -> str:
        """Why it ended, as far as the agent knows: who ended it, the last lines it printed."""
        return "\n".join(filter(None, (self.ended_by, self.tail)))


class LoadReport(Structure):
    """How busy a host is; 0 is what cannot be told."""

    #: Those that the agent, and so its kernels, may use.
    cores: int = 1
    #: The average of a minute.
    load: float = 0.0
    #: Bytes.
    memory: int = 0
    memory_available: int = 0
    #: The kernels that run there: everybody's, this agent's, and those of who is told.
    kernels: int = 0
    mine: int = 0
    yours: int = 0
    #: The devices that kernels have, everybody's.
    gpus_taken: Sequence[str] = ()


class AgentDescription(Structure):
    """Who answers."""

    pid: int = 0
    #: The version of its interpreter.
    python: str = ""
    #: Where its sockets are; the name of it says its version and its host.
    directory: str = ""
    #: Of the protocol.
    protocol: int = 0
    #: The host it runs on, and the boot of that, as find_or_start.py names them; "": not said.
    host: str = ""
    boot: str = ""


class AgentStatus(AgentDescription):
    """Who answers, since when, and who else of this user's is there."""

    since: float = 0.0
    #: The directories of this user's agents of other versions.
    others: Sequence[str] = ()


class Resolved(Structure):
    """An absolute path, "" where there is nothing."""

    path: str = ""


class Welcome(AgentDescription):
    """The agent, and what it holds for who has said hello."""

    hostname: str = ""
    home: str = ""
    kernels: Sequence[KernelDescription] = ()
    load: LoadReport = LoadReport()
    #: The ids of kernels of this user whose servers are not connected.
    left: Sequence[str] = ()


class KernelStatus(KernelDescription):
    """A kernel for somebody who looks at all; without what its connection consists of."""

    owner: str = ""
    #: Whether its owner is connected.
    owned: bool = False
    #: Resident bytes.
    memory: Optional[int] = None
    #: Seconds.
    idle: Optional[float] = None
    lease_left: Optional[float] = None


class HostReport(Structure):
    """What is on a host, of whichever server."""

    agent: AgentStatus
    load: LoadReport
    kernels: Sequence[KernelStatus] = ()


class Delivered(Structure):
    """Whether a signal has reached somebody."""

    delivered: bool = False


class Tail(Structure):
    tail: str = ""


class Output(Structure):
    output: str = ""


class Present(Structure):
    present: bool = False


class Examined(Fallible):
    """An interpreter and what it has; `error` where there is none."""

    program: str = ""
    version: str = ""
    #: The version of the package that was asked for; None if it has none.
    package: Optional[str] = None
