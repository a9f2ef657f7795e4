"""The states of a kernel, and what moves it from one to the next. Pure: no I/O, no clock.

::

    STARTING --launched--> LAUNCHED --listening--> RUNNING <--reconnected-- UNREACHABLE
                               |                      |  \\--disconnected-------^  |
                               +------- exited -------+------------ exited --------+--> EXITED
                                                      lost (grace over, agent gone) --> LOST

EXITED has an exit code that the agent confirmed; LOST has a reason why none can be known.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: What poll() answers for a kernel whose exit code nobody can know.
LOST_EXIT_CODE = -1


class State(enum.Enum):
    STARTING = "starting"
    LAUNCHED = "launched"
    RUNNING = "running"
    UNREACHABLE = "unreachable"
    EXITED = "exited"
    LOST = "lost"


_OVER = (State.EXITED, State.LOST)


@dataclass
class Lifecycle:
    """One life of a kernel, from the request to its end; a restart begins a new one."""

    state: State = State.STARTING
    exit_code: int | None = None
    #: Why it ended, or the last lines that it printed.
    reason: str = ""
    unreachable_since: float | None = None
    _listening: bool = False

    @property
    def over(self) -> bool:
        return self.state in _OVER

    @property
    def serving(self) -> bool:
        """Whether its endpoints are open and the host can be reached."""
        return self.state is State.RUNNING

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
        """The host cannot be reached: a failure of the network is not a death."""
        if self.state in (State.LAUNCHED, State.RUNNING):
            self.state = State.UNREACHABLE
            self.unreachable_since = now

    def reconnected(self) -> None:
        """The host is back and its agent knows the kernel."""
        if self.state is State.UNREACHABLE:
            self.state = State.RUNNING if self._listening else State.LAUNCHED
            self.unreachable_since = None

    def exited(self, code: int, reason: str = "") -> None:
        """The agent confirmed the end of the process."""
        if not self.over:
            self.state, self.exit_code, self.reason = State.EXITED, code, reason

    def lost(self, reason: str) -> None:
        """Nobody can tell any more how the kernel is."""
        if not self.over:
            self.state, self.exit_code, self.reason = State.LOST, LOST_EXIT_CODE, reason

    def grace_left(self, now: float, grace: float) -> float | None:
        """Seconds until an unreachable kernel counts as lost; None when it is not unreachable."""
        if self.unreachable_since is None or self.over:
            return None
        return max(0.0, self.unreachable_since + grace - now)

    def poll(self) -> int | None:
        """None while starting, running or unreachable; else the exit code."""
        return self.exit_code
