"""The states of a kernel and the transitions between them. Pure: no I/O, no clock.

::

    STARTING --launched--> LAUNCHED --listening--> RUNNING --disconnected--> UNREACHABLE
                                                      ^ \\---- reconnected ------/
                                                      |
    UNADOPTED ---------------- adopted ---------------+

    any of them --exited (the agent confirms the code)-----------------------> EXITED
    any of them --lost (grace over, agent gone, taken by another server)-----> LOST

A kernel that another process started begins UNADOPTED. Until the agent makes this process its
owner, it counts as unreachable, within the grace. A kernel that this process only attaches to
keeps its owner, so each lost connection makes it UNADOPTED again.

EXITED has an exit code that the agent confirmed. LOST has a reason why the exit code is unknown.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: The result of poll() for a kernel with an unknown exit code.
LOST_EXIT_CODE = -1


class State(enum.Enum):
    STARTING = "starting"
    LAUNCHED = "launched"
    RUNNING = "running"
    UNREACHABLE = "unreachable"
    UNADOPTED = "unadopted"
    EXITED = "exited"
    LOST = "lost"


_OVER = (State.EXITED, State.LOST)


@dataclass
class Lifecycle:
    """One life of a kernel, from the request to its end. A restart begins a new life."""

    state: State = State.STARTING
    exit_code: int | None = None
    #: Why it ended, or the last lines that it printed.
    reason: str = ""
    unreachable_since: float | None = None
    #: Whether the kernel on the host still belongs to another process, as far as we know. This
    #: stays true if the life is lost before the adoption.
    adoption_pending: bool = False
    #: The former owner, from the kernel's record; "" if this process started it.
    former_owner: str = ""
    #: Whether the node of an engine has ended with it: nobody but the user asks for another one.
    node_ended: bool = False
    #: Whether this process only uses the kernel and its server stays the owner.
    attached: bool = False
    _listening: bool = False

    @classmethod
    def left(cls, former_owner: str, now: float) -> Lifecycle:
        """The life of a kernel that another process left and this one will adopt."""
        return cls(
            State.UNADOPTED,
            unreachable_since=now,
            adoption_pending=True,
            former_owner=former_owner,
        )

    @classmethod
    def of_another(cls, now: float) -> Lifecycle:
        """The life of a kernel that this process attaches to and another one owns."""
        return cls(State.UNADOPTED, unreachable_since=now, adoption_pending=True, attached=True)

    def restarted(self) -> Lifecycle:
        """The next life. The kernel on the host may still belong to another process."""
        if not self.adoption_pending:
            return Lifecycle()
        return Lifecycle(adoption_pending=True, former_owner=self.former_owner)

    @property
    def over(self) -> bool:
        return self.state in _OVER

    @property
    def serving(self) -> bool:
        """Whether its endpoints are open and the host is reachable."""
        return self.state is State.RUNNING

    @property
    def unreachable(self) -> bool:
        """Whether it cannot be reached, although it may live."""
        return self.state in (State.UNREACHABLE, State.UNADOPTED)

    def launched(self) -> None:
        """The process runs."""
        if self.state is State.STARTING:
            self.state = State.LAUNCHED

    def listening(self) -> None:
        """Its endpoints are open."""
        self._listening = True
        if self.state in (State.STARTING, State.LAUNCHED):
            self.state = State.RUNNING

    def disconnected(self, now: float) -> None:
        """The host cannot be reached. A network failure is not the kernel's death."""
        if self.state in (State.LAUNCHED, State.RUNNING):
            self.state = State.UNADOPTED if self.attached else State.UNREACHABLE
            self.adoption_pending = self.attached
            self.unreachable_since = now

    def reconnected(self) -> None:
        """The host is back, and its agent knows the kernel as ours."""
        if self.state is State.UNREACHABLE:
            self.state = State.RUNNING if self._listening else State.LAUNCHED
            self.unreachable_since = None

    def adopted(self) -> None:
        """The agent has made this process the owner, or has let it attach."""
        if self.state is State.UNADOPTED:
            self.state, self.unreachable_since = State.RUNNING, None
            self.adoption_pending, self._listening = False, True

    def replaced(self) -> None:
        """The kernel that another process left on the host was ended to make room for a restart."""
        self.adoption_pending = False

    def exited(self, code: int, reason: str = "") -> None:
        """The agent confirmed the end of the process."""
        if not self.over:
            self.state, self.exit_code, self.reason = State.EXITED, code, reason

    def lost(self, reason: str) -> None:
        """The kernel's state cannot be known any more."""
        if not self.over:
            self.state, self.exit_code, self.reason = State.LOST, LOST_EXIT_CODE, reason

    def ended_with_node(self, reason: str) -> None:
        """The engine has ended its node, for this reason."""
        if self.over:
            self.reason, self.node_ended = reason, True

    def grace_left(self, now: float, grace: float) -> float | None:
        """Seconds until an unreachable kernel counts as lost; None if it is reachable or over."""
        if self.unreachable_since is None or self.over:
            return None
        return max(0.0, self.unreachable_since + grace - now)

    def poll(self) -> int | None:
        """None while starting, running or unreachable, otherwise the exit code."""
        return self.exit_code
