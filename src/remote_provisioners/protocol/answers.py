"""The agent's answers and its reasons for refusals.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence

from .conventions import LEASE_SECONDS
from .structure import Structure


class Refusal(Structure):
    """Why the agent refuses a request. `code` is one of those below."""

    code: str = ""
    message: str = ""


#: The request is invalid, or this server may not make it.
BAD_REQUEST = "bad-request"
#: The versions of the two ends are incompatible.
VERSION_REFUSED = "version"
#: An error in the agent. Its log has details.
INTERNAL = "internal"
#: The start was cancelled.
CANCELLED = "cancelled"
#: The host's fault. Another host may work.
HOST_FULL, NO_GPUS, NO_ROOM = "host-full", "no-gpus", "no-room"
#: The fault of the kernel, its program or its configuration.
CANNOT_START, NO_PROGRAM, NO_PORTS = "cannot-start", "no-program", "no-ports"
HOOK_FAILED = "hook-failed"
#: About an existing kernel: it is not here, or it belongs to another connected server.
NO_KERNEL, TAKEN = "no-kernel", "taken"
#: About a stream that is over.
NO_STREAM = "no-stream"


class Fallible(Structure):
    """An answer that may be an error."""

    error: str = ""

    def fields(self) -> Dict[str, Any]:
        """Leave out an empty error, because version 0 reads the field itself as an error."""
        found = super().fields()
        if not self.error:
            del found["error"]
        return found


class Nothing(Structure):
    """The request was carried out."""


class KernelDescription(Structure):
    """A kernel, as its agent describes it."""

    kernel_id: str
    #: None until its process runs.
    pid: Optional[int] = None
    #: Seconds since the epoch.
    started: Optional[float] = None
    #: How its process came to be: "spawned", "forked", "warm"; "" if unknown.
    way: str = ""
    #: Its devices.
    gpus: Sequence[str] = ()
    cwd: str = ""
    home: str = ""
    #: The content of its connection file, including the key.
    connection: Mapping[str, Any] = {}
    listening: bool = False
    #: Negative for a signal; None while it runs.
    exit_code: Optional[int] = None
    #: The last lines that it printed, once it has ended.
    tail: str = ""
    #: Seconds that it lives without its server.
    lease: float = LEASE_SECONDS
    #: Why the agent has ended it, or the system for want of memory; "" if neither is known.
    ended_by: str = ""

    @property
    def reason(self) -> str:
        """Why it ended, as far as the agent knows, and its last lines of output."""
        return "\n".join(filter(None, (self.ended_by, self.tail)))


class LoadReport(Structure):
    """The load of a host. 0 means unknown."""

    #: The cores that the agent and its kernels may use.
    cores: int = 1
    #: The average over a minute.
    load: float = 0.0
    #: Bytes.
    memory: int = 0
    memory_available: int = 0
    #: Running kernels: everybody's, this agent's, and those of the receiving server.
    kernels: int = 0
    mine: int = 0
    yours: int = 0
    #: The devices that any kernels have.
    gpus_taken: Sequence[str] = ()


class AgentDescription(Structure):
    """Who answers."""

    pid: int = 0
    #: The version of its interpreter.
    python: str = ""
    #: The directory of its sockets. Its name contains the version and the host.
    directory: str = ""
    #: The protocol version.
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
    """An absolute path, "" if nothing is there."""

    path: str = ""


class Welcome(AgentDescription):
    """The agent's answer to hello: itself and this server's kernels."""

    hostname: str = ""
    home: str = ""
    kernels: Sequence[KernelDescription] = ()
    load: LoadReport = LoadReport()
    #: The ids of kernels of this user whose servers are not connected.
    left: Sequence[str] = ()


class KernelStatus(KernelDescription):
    """A kernel in a list of all kernels, without its connection."""

    owner: str = ""
    #: Whether its owner is connected.
    owned: bool = False
    #: Resident bytes.
    memory: Optional[int] = None
    #: Seconds.
    idle: Optional[float] = None
    lease_left: Optional[float] = None


class HostReport(Structure):
    """All kernels on a host, of any server."""

    agent: AgentStatus
    load: LoadReport
    kernels: Sequence[KernelStatus] = ()


class Delivered(Structure):
    """Whether a signal reached a process."""

    delivered: bool = False


class Tail(Structure):
    tail: str = ""


class Output(Structure):
    """What a kernel's process has printed after the requested position."""

    output: str = ""
    #: The position of its end, in bytes. An older agent tells none, and always sends all.
    end: int = -1
    #: Whether the process had ended before.
    ended: bool = False


class Present(Structure):
    present: bool = False


class Examined(Fallible):
    """An interpreter and its package, or an `error`."""

    program: str = ""
    version: str = ""
    #: The version of the requested package; None if it is not installed.
    package: Optional[str] = None


class FoundInterpreter(Structure):
    """A program on the host that runs a kernel, or could with one more package."""

    #: conda, venv, python (a prefix that is neither), R, julia or module.
    kind: str
    name: str
    language: str
    version: str = ""
    #: Its prefix, for R and Julia its home, for a module its file; and its program.
    path: str
    program: str
    #: What a kernel of it needs, and its version there; None: it is not installed.
    package: str = ""
    package_version: Optional[str] = None
    #: Who made it: uv, poetry, pipenv, pyenv, virtualenv; "" if nothing says so.
    tool: str = ""
    #: A program there that installs packages into it: pip's Python or conda.
    installer: str = ""
    #: Its system's packages are the only ones that may go into it (PEP 668).
    managed: bool = False
    #: A directory with the language's logos, "" for none.
    resources: str = ""


class FoundKernelspec(Structure):
    """A kernelspec on the host."""

    name: str
    #: Its directory, and the content of its kernel.json.
    path: str
    spec: Mapping[str, Any]
    #: The prefix whose kernelspec it is, "" for one of the user or the system.
    prefix: str = ""
    #: What the first word of its argv stands for, "" where that is not there.
    program: str = ""
    #: The conda environment or venv that its program or itself is in, and which of both.
    environment: str = ""
    environment_kind: str = ""


class FoundEnvironments(Structure):
    """What could run kernels on the host."""

    interpreters: Sequence[FoundInterpreter] = ()
    kernelspecs: Sequence[FoundKernelspec] = ()
    seconds: float = 0.0
    #: Where it did not look, for want of time.
    unfinished: Sequence[str] = ()


class Activation(Fallible):
    """The variables that the activation of an environment sets, or an `error`."""

    #: As a kernelspec's env: ``${NAME}`` is the host's value, ``$$`` a dollar.
    env: Mapping[str, str] = {}
    #: The scripts that were run in a shell to get them.
    scripts: Sequence[str] = ()


class KernelspecFiles(Fallible):
    """The files of a kernelspec's directory in base64, by their path in it, or an `error`."""

    files: Mapping[str, str] = {}
    #: Those among them that may be run as programs.
    programs: Sequence[str] = ()
