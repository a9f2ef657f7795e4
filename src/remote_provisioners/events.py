"""What happens to hosts, starts and kernels of this process, told to whoever listens.

Told in the I/O thread. The provisioners do not know who listens: a Jupyter server extension, a
test, nobody.
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
    """How far a start is."""

    PLACING = "placing"
    CONNECTING = "connecting"
    QUEUED = "queued"
    #: A resource manager has not given it its resources yet.
    WAITING = "waiting"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class StartProgress:
    """A start has come to a phase, or there is more to say of the phase."""

    kernel_id: str
    phase: Phase
    #: "start", or "restart" of a kernel that was there.
    kind: str = "start"
    #: The file that the kernel is for, "" where who asked did not say.
    notebook: str = ""
    #: As it is written in the configuration; "" while none is chosen.
    host: str = ""
    #: What a person should know: why it waits, or in whose words it waits.
    text: str = ""
    #: How many starts are before it in the host's queue; None: the host does not say.
    ahead: int | None = None
    #: How the kernel's process came to be: "forked", "warm" or "spawned".
    way: str = ""
    #: Seconds since the start was asked for.
    seconds: float = 0.0
    #: Why it failed.
    error: BaseException | None = None


@dataclass(frozen=True)
class HostChanged:
    """What is known of a host has changed: its connection, its circuit or its load."""

    host: Host


@dataclass(frozen=True)
class KernelChanged:
    """The state of a kernel has changed."""

    kernel: RemoteKernel


@dataclass(frozen=True)
class KernelMoved:
    """A kernel is being started on another host than before."""

    kernel: RemoteKernel
    former: str


@dataclass(frozen=True)
class OutputDropped:
    """A kernel has printed more than its host keeps; so many messages are lost."""

    kernel: RemoteKernel
    messages: int


@dataclass(frozen=True)
class KernelForgotten:
    """A kernel is none of this process's any more."""

    kernel: RemoteKernel


Event = StartProgress | HostChanged | KernelChanged | KernelMoved | OutputDropped | KernelForgotten


class EventFeed:
    """Tells each event to every listener, in the thread of who tells it."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Event], None], ...] = ()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns what ends that."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return stop

    def tell(self, event: Event) -> None:
        """Tell it to everybody who listens: an error of theirs is none of ours."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("an event was not heard: %r", event)


#: This process's.
events = EventFeed()
