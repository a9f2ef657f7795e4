"""Requests, events and the first frames of streams, as both ends write and read them.

A request is sent by a server and answered by the agent with one structure (answers.py); an event
comes from the agent unasked. wire.py frames them, version.py says how versions get on: a field
that is added later needs a default, which stands for what an older side does.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Generic, Mapping, Sequence, Type, TypeVar

from .answers import (
    Delivered,
    Examined,
    Fallible,
    HostReport,
    KernelDescription,
    LoadReport,
    Nothing,
    Output,
    Present,
    Resolved,
    Tail,
    Welcome,
)
from .conventions import LEASE_SECONDS, OUTPUT_DISK, OUTPUT_MEMORY
from .structure import Structure

A = TypeVar("A", bound=Structure)

# -- requests --------------------------------------------------------------------------------


class Request(Structure, Generic[A]):
    """What a server asks of an agent."""

    op: ClassVar[str] = ""
    answer: ClassVar[Type[Structure]] = Nothing


class Hello(Request[Welcome]):
    """The first request. `owner` names the server process."""

    op = "hello"
    answer = Welcome
    owner: str
    protocol: int = 0


class GpuRequest(Structure):
    """How many of these devices a kernel wants for itself."""

    count: int = 0
    devices: Sequence[str] = ()


class OutputBounds(Structure):
    """What is kept of a kernel's output while nobody listens, in bytes."""

    memory: int = OUTPUT_MEMORY
    disk: int = OUTPUT_DISK


class Start(Request[KernelDescription]):
    """Start a kernel; the answer comes when its process runs.

    An event `Queued` comes first when it has to wait; `Listening` or `Exited` follow.
    """

    op = "start"
    answer = KernelDescription
    kernel_id: str
    #: With ``{templates}``, and what they stand for, beside the host's own.
    argv: Sequence[str]
    substitutions: Mapping[str, str] = {}
    #: The kernelspec's, to be expanded on the host.
    env: Mapping[str, str] = {}
    #: The start request's, to be taken as it is.
    request_env: Mapping[str, str] = {}
    #: Directories to begin in: the first that is there.
    cwd: Sequence[str] = ()
    #: Shell text that makes the environment, and the interpreter that `python` means.
    hook: str = ""
    python: str = ""
    #: transport, key, signature_scheme, and keys for CurveZMQ.
    connection: Mapping[str, Any]
    #: Lower and upper; 0 and 0: any.
    port_range: Sequence[int] = (0, 0)
    #: The digest of a directory that was put before, and where that is on the server.
    resources: str = ""
    resources_from: str = ""
    #: Whether a launcher tells the server where the kernel listens.
    reports_endpoints: bool = False
    gpus: GpuRequest = GpuRequest()
    #: Modules that a Python kernel is to find imported.
    preload: Sequence[str] = ()
    #: How many such kernels to keep ready.
    warm: int = 0
    lease: float = LEASE_SECONDS
    #: Seconds that it may idle while its server is away; 0: as long as its lease.
    left_idle: float = 0.0
    output: OutputBounds = OutputBounds()


class OfKernel(Request[A]):
    """A request about one kernel."""

    kernel_id: str


class ReportListening(OfKernel[Nothing]):
    """A launcher has told the server where its kernel listens: its start is over."""

    op = "listening"
    connection: Mapping[str, Any] = {}


class Signal(OfKernel[Delivered]):
    """Signal the process group of a kernel."""

    op = "signal"
    answer = Delivered
    signum: int


class Forget(OfKernel[Nothing]):
    """The server is done with this kernel: end it if it runs, remove its files."""

    op = "forget"


class GetTail(OfKernel[Tail]):
    """The last lines that a kernel printed."""

    op = "tail"
    answer = Tail


class GetOutput(OfKernel[Output]):
    """All that is kept of what a kernel printed."""

    op = "output"
    answer = Output


class Adopt(OfKernel[KernelDescription]):
    """Make the asking server the owner of a kernel. `owner`: who its record says has it."""

    op = "adopt"
    answer = KernelDescription
    owner: str = ""


class Attach(OfKernel[KernelDescription]):
    """How to reach a kernel that stays its owner's; kept, as by its owner, while we look."""

    op = "attach"
    answer = KernelDescription


class Announce(OfKernel[Nothing]):
    """Show a text in the next cell that this kernel runs."""

    op = "announce"
    text: str


class ResolvePath(OfKernel[Resolved]):
    """Where a path of the kernel is in its host's file system."""

    op = "resolve_path"
    answer = Resolved
    path: str


class HasResources(Request[Present]):
    """Whether the resource directory of this digest is there already."""

    op = "has_resources"
    answer = Present
    digest: str


class PutResources(Request[Nothing]):
    """Unpack a resource directory; `archive` is a tar in base64."""

    op = "put_resources"
    digest: str
    archive: str


class Examine(Request[Examined]):
    """Which interpreter `python` means after the hook, and which version of a package it has."""

    op = "examine"
    answer = Examined
    package: str
    hook: str = ""
    python: str = ""


class GetLoad(Request[LoadReport]):
    op = "load"
    answer = LoadReport


class GetStatus(Request[HostReport]):
    op = "status"
    answer = HostReport


class Leave(Request[Nothing]):
    """The server goes for good: its kernels are ended, but for those to keep."""

    op = "leave"
    keep: Sequence[str] = ()


# -- events ----------------------------------------------------------------------------------


class Accepted(Structure):
    """A start has arrived. Sent at once, since version 2."""

    event: ClassVar[str] = "accepted"
    kernel_id: str


class Queued(Structure):
    """A start waits for its turn."""

    event: ClassVar[str] = "queued"
    kernel_id: str
    #: Starts that are before it.
    ahead: int = 0


class Listening(Structure):
    """A kernel's endpoints are open."""

    event: ClassVar[str] = "listening"
    kernel_id: str


class Exited(KernelDescription):
    """A kernel has ended."""

    event: ClassVar[str] = "exited"


class Taken(Structure):
    """Another server has adopted a kernel of this one."""

    event: ClassVar[str] = "taken"
    kernel_id: str


class Dropped(Structure):
    """A kernel printed more than is kept: these messages are lost to its clients."""

    event: ClassVar[str] = "dropped"
    kernel_id: str
    messages: int = 0


class LoadChanged(LoadReport):
    event: ClassVar[str] = "load"


class Notice(Structure):
    """Something that whoever looks after servers and hosts should know."""

    event: ClassVar[str] = "notice"
    text: str = ""


REQUESTS: Dict[str, Type[Request[Any]]] = {
    kind.op: kind
    for kind in list(Structure._named.values())
    if issubclass(kind, Request) and kind.op
}
EVENTS: Dict[str, Any] = {
    kind.event: kind
    for kind in (Accepted, Queued, Listening, Exited, Taken, Dropped, LoadChanged, Notice)
}


def read_event(message: Mapping[str, Any]) -> Any:
    """The event in a message; None for one that this side does not know. Raises FieldError."""
    kind = EVENTS.get(str(message.get("event")))
    return None if kind is None else kind.read(message)


def event_message(event: Any) -> Dict[str, Any]:
    return {"event": event.event, **event.fields()}


# -- streams ---------------------------------------------------------------------------------


class OpenStream(Structure):
    """The first frame of a server on a link of a stream (protocol/stream.py)."""

    #: Its name, which is secret enough.
    stream: str
    kernel_id: str
    channel: str
    #: Bytes that this side has.
    received: int = 0
    #: The pid of the agent it was first opened at, and whether that has answered.
    agent: int = 0
    known: bool = False
    #: Seconds to keep it when its link is lost.
    keep: float = 0.0
    #: Of iopub: it wants what nobody has had.
    replay: bool = False
    #: What a kernel's socket says until it is connected has been said to the client already.
    greeted: bool = False


class StreamOpened(Fallible):
    """The agent's answer. `error`: NO_KERNEL (it is not there yet, or not any more, and nothing was
    delivered) or NO_STREAM (the stream is over).
    """

    received: int = 0
