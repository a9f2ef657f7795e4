"""A kernel, as its host sees it."""

from __future__ import annotations

from typing import Any, Protocol

from ..protocol.answers import KernelDescription
from .machine import Machine


class Resident(Protocol):
    """What a host needs of a kernel."""

    kernel_id: str
    #: Where it runs, as far as that is known.
    machine: Machine

    @property
    def may_run(self) -> bool:
        """Whether it may have a process on the host."""

    def on_event(self, event: Any) -> None:
        """The agent reports an event of protocol/agent_events.py."""

    def on_disconnected(self) -> None:
        """The connection is lost."""

    def on_reconnected(self, described: KernelDescription | None, agent: int = 0) -> None:
        """The connection is back. `described` is the agent's description of it, if any."""

    def give_up(self, reason: str) -> None:
        """It is lost."""
