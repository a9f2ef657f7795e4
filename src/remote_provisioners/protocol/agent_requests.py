"""The requests of a server to an agent.

The agent answers each with one structure (answers.py). wire.py frames them. version.py has the rule
for versions: a field that is added later needs a default, which means the behaviour of an older
side. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Generic, Mapping, Optional, Sequence, Type, TypeVar

from .answers import (
    Activation,
    Delivered,
    Examined,
    FoundEnvironments,
    HostReport,
    KernelDescription,
    KernelspecFiles,
    LoadReport,
    Nothing,
    Output,
    Present,
    Resolved,
    Tail,
    Welcome,
)
from .conventions import LEASE_SECONDS, OUTPUT_DISK, OUTPUT_MEMORY
from .ports import PortsFound
from .structure import Structure

A = TypeVar("A", bound=Structure)


class Request(Structure, Generic[A]):
    """A server's request to an agent."""

    op: ClassVar[str] = ""
    answer: ClassVar[Type[Structure]] = Nothing


class Hello(Request[Welcome]):
    """The first request. `owner` names the server process."""

    op = "hello"
    answer = Welcome
    owner: str
    protocol: int = 0


class GpuRequest(Structure):
    """The number of devices that a kernel needs, and the candidates."""

    count: int = 0
    devices: Sequence[str] = ()


class OutputBounds(Structure):
    """How much of a kernel's output to keep while nobody listens, in bytes."""

    memory: int = OUTPUT_MEMORY
    disk: int = OUTPUT_DISK


class Start(Request[KernelDescription]):
    """Start a kernel. The answer comes when its process runs.

    If it has to wait, an event `Queued` comes first. `Listening` or `Exited` follow.
    """

    op = "start"
    answer = KernelDescription
    kernel_id: str
    #: The words with ``{placeholders}``, and their values besides the host's own.
    argv: Sequence[str]
    substitutions: Mapping[str, str] = {}
    #: The kernelspec's environment, which the host expands.
    env: Mapping[str, str] = {}
    #: The start request's environment, which is used unchanged.
    request_env: Mapping[str, str] = {}
    #: Working directories. The first existing one is used.
    cwd: Sequence[str] = ()
    #: The environment hook, and the interpreter that `python` stands for.
    hook: str = ""
    python: str = ""
    #: transport, key, signature_scheme, and keys for CurveZMQ.
    connection: Mapping[str, Any]
    #: Seconds after which the agent ends a kernel that has not bound its unix sockets; 0: no limit.
    trial: float = 0.0
    #: Lower and upper; 0 and 0 mean any.
    port_range: Sequence[int] = (0, 0)
    #: The digest of a resource directory that was sent, and its path on the server.
    resources: str = ""
    resources_from: str = ""
    #: Whether a launcher tells the server where the kernel listens.
    reports_endpoints: bool = False
    gpus: GpuRequest = GpuRequest()
    #: Modules that a Python kernel should find imported.
    preload: Sequence[str] = ()
    #: The number of such kernels to keep warm.
    warm: int = 0
    lease: float = LEASE_SECONDS
    #: Seconds that it may be idle while its server is away; 0: no limit but the lease.
    left_idle: float = 0.0
    output: OutputBounds = OutputBounds()
    #: How many kernels of all users the host may have, this one included; None: any number.
    capacity: Optional[int] = None


class OfKernel(Request[A]):
    """A request about one kernel."""

    kernel_id: str


class ReportListening(OfKernel[Nothing]):
    """A launcher has reported where its kernel listens, so the start is complete."""

    op = "listening"
    connection: Mapping[str, Any] = {}


class Signal(OfKernel[Delivered]):
    """Signal the process group of a kernel."""

    op = "signal"
    answer = Delivered
    signum: int


class Forget(OfKernel[Nothing]):
    """End this kernel if it runs, and remove its files."""

    op = "forget"


class GetTail(OfKernel[Tail]):
    """Request a kernel's last lines of output."""

    op = "tail"
    answer = Tail


class GetOutput(OfKernel[Output]):
    """Request the stored output of a kernel's process after the position `after`."""

    op = "output"
    answer = Output
    after: int = 0


class Adopt(OfKernel[KernelDescription]):
    """Make this server the owner of a kernel. `owner`: the present owner, from its record."""

    op = "adopt"
    answer = KernelDescription
    owner: str = ""


class Attach(OfKernel[KernelDescription]):
    """Attach to a kernel that keeps its owner. Its lease does not run out meanwhile."""

    op = "attach"
    answer = KernelDescription


class Announce(OfKernel[Nothing]):
    """Show a text in the next cell that this kernel runs; with `now`, in the one that it runs."""

    op = "announce"
    text: str
    now: bool = False


class ResolvePath(OfKernel[Resolved]):
    """Resolve a path of the kernel in its host's file system."""

    op = "resolve_path"
    answer = Resolved
    path: str


class GetPorts(Request[PortsFound]):
    """Ask on which ports the processes of these kernels listen."""

    op = "ports"
    answer = PortsFound
    kernel_ids: Sequence[str] = ()


class HasResources(Request[Present]):
    """Ask whether the resource directory with this digest exists."""

    op = "has_resources"
    answer = Present
    digest: str


class PutResources(Request[Nothing]):
    """Unpack a resource directory. `archive` is a tar in base64."""

    op = "put_resources"
    digest: str
    archive: str


class Examine(Request[Examined]):
    """Ask which interpreter `python` means after the hook, and its version of a package."""

    op = "examine"
    answer = Examined
    package: str
    hook: str = ""
    python: str = ""


class FindEnvironments(Request[FoundEnvironments]):
    """Ask what could run kernels there. Nothing is run. `directories`: look there too."""

    op = "find_environments"
    answer = FoundEnvironments
    hook: str = ""
    directories: Sequence[str] = ()


class Activate(Request[Activation]):
    """Ask which variables the activation of an interpreter's environment sets after the hook."""

    op = "activate"
    answer = Activation
    kind: str
    path: str
    program: str
    hook: str = ""


class GetKernelspecFiles(Request[KernelspecFiles]):
    """Request the files of a kernelspec, except its kernel.json."""

    op = "kernelspec_files"
    answer = KernelspecFiles
    path: str


class GetLoad(Request[LoadReport]):
    op = "load"
    answer = LoadReport


class GetStatus(Request[HostReport]):
    op = "status"
    answer = HostReport


class Leave(Request[Nothing]):
    """The server leaves for good. Its kernels are ended, except those to keep."""

    op = "leave"
    keep: Sequence[str] = ()


REQUESTS: Dict[str, Type[Request[Any]]] = {
    kind.op: kind
    for kind in list(Structure._named.values())
    if issubclass(kind, Request) and kind.op
}
