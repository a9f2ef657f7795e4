"""The events that an agent sends without a request.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Mapping

from .answers import KernelDescription, LoadReport
from .structure import Structure


class Accepted(Structure):
    """A start has arrived. Sent at once, since version 2."""

    event: ClassVar[str] = "accepted"
    kernel_id: str


class Queued(Structure):
    """A start waits in the queue."""

    event: ClassVar[str] = "queued"
    kernel_id: str
    #: The number of starts before it.
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
    """A kernel printed more than its agent keeps. These messages are lost."""

    event: ClassVar[str] = "dropped"
    kernel_id: str
    messages: int = 0


class LoadChanged(LoadReport):
    event: ClassVar[str] = "load"


class Notice(Structure):
    """A notice for the operator of servers and hosts."""

    event: ClassVar[str] = "notice"
    text: str = ""


EVENTS: Dict[str, Any] = {
    kind.event: kind
    for kind in (Accepted, Queued, Listening, Exited, Taken, Dropped, LoadChanged, Notice)
}


def read_event(message: Mapping[str, Any]) -> Any:
    """The event in a message; None if this side does not know it. Raises FieldError."""
    kind = EVENTS.get(str(message.get("event")))
    return None if kind is None else kind.read(message)


def event_message(event: Any) -> Dict[str, Any]:
    return {"event": event.event, **event.fields()}
