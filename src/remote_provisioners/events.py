"""Events of this process's hosts, starts and kernels.

Listeners are called in the I/O thread. Provisioners do not know their listeners: a Jupyter server
extension, a test, or none.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hosts.host import Host
    from .kernels.remote_kernel import RemoteKernel

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """The phase of a start."""

    PLACING = "placing"
    CONNECTING = "connecting"
    QUEUED = "queued"
    #: It waits for a resource manager to grant resources.
    WAITING = "waiting"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class StartProgress:
    """A start has entered a phase, or has news about its phase."""

    kernel_id: str
    phase: Phase
    #: "start", or "restart" for an existing kernel.
    kind: str = "start"
    #: The file that the kernel is for; "" if unknown.
    notebook: str = ""
    #: The host as configured; "" until one is chosen.
    host: str = ""
    #: A message for the user, such as what the start waits for.
    text: str = ""
    #: The number of starts before it in the host's queue; None if unknown.
    ahead: int | None = None
    #: How the kernel's process was created: "forked", "warm" or "spawned".
    way: str = ""
    #: Seconds since the request.
    seconds: float = 0.0
    #: Why it failed.
    error: BaseException | None = None


@dataclass(frozen=True)
class HostChanged:
    """A host's connection, circuit or load has changed."""

    host: Host


@dataclass(frozen=True)
class HostForgotten:
    """This process no longer needs a host: a kernel's container, or an agent of another version."""

    host: Host


@dataclass(frozen=True)
class KernelChanged:
    """The state of a kernel has changed."""

    kernel: RemoteKernel


@dataclass(frozen=True)
class KernelMoved:
    """A kernel is starting on another host than before."""

    kernel: RemoteKernel
    former: str


@dataclass(frozen=True)
class OutputDropped:
    """A kernel printed more than its host keeps. `messages` of them are lost."""

    kernel: RemoteKernel
    messages: int


@dataclass(frozen=True)
class KernelForgotten:
    """This process no longer has the kernel."""

    kernel: RemoteKernel


Event = (
    StartProgress
    | HostChanged
    | HostForgotten
    | KernelChanged
    | KernelMoved
    | OutputDropped
    | KernelForgotten
)


class EventFeed:
    """Passes each event to every listener, in the caller's thread."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Event], None], ...] = ()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with each event from now on. Returns a function that stops this."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return stop

    def tell(self, event: Event) -> None:
        """Call every listener. An error in one does not affect the others."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener failed for the event %r", event)


#: The feed of this process.
events = EventFeed()
