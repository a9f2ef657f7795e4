"""Limit a stream's data in transit, so that other kernels' messages do not wait behind it.

A kernel that sends alone may fill the connection. When several kernels send, each stream keeps so
little in transit that its data arrives only a little later than a single piece would. More data
would wait in a queue and delay the others. Delay-based congestion control works like this, for
example TCP Vegas (Brakmo and Peterson, 1995). Pure; times are monotonic seconds. Standard
library only: this module travels to hosts.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Tuple

#: Room of a stream of several, within what fast and near, and slow or far hosts need.
LEAST_BYTES, MOST_BYTES = 64 * 1024, 8 * 1024 * 1024
#: The size of its pieces.
SHARED_PIECE_BYTES = LEAST_BYTES // 2
#: How much later than the earliest answer an answer may be.
_LATER = 1.25
#: How long several kernels count as sending after they last did.
_SHARED_SECONDS = 0.1
_CLOCK_SECONDS = 1e-6


class Traffic:
    """The senders on a connection."""

    def __init__(self) -> None:
        self._last: Optional[object] = None
        self._shared_until = 0.0

    def sends(self, sender: object, now: float) -> None:
        if sender != self._last:
            if self._last is not None:
                self._shared_until = now + _SHARED_SECONDS
            self._last = sender

    def is_shared(self, now: float) -> bool:
        """Whether several kernels send."""
        return now < self._shared_until


class Pace:
    """The room of one stream on one link, derived from the time of acknowledgements."""

    def __init__(self) -> None:
        self.room = LEAST_BYTES
        self._earliest = float("inf")
        self._asked_before = 0
        self._asked: Deque[Tuple[int, int, float]] = deque()

    def sent(self, end: int, on_the_way: int, now: float) -> bool:
        """Everything before `end` is sent. Returns whether to ask for an acknowledgement."""
        if end - self._asked_before < SHARED_PIECE_BYTES // 2:
            return False
        self._asked_before = end
        self._asked.append((end, on_the_way, now))
        return True

    def acknowledged(self, offset: int, now: float) -> None:
        """Everything before `offset` has arrived."""
        while self._asked and self._asked[0][0] <= offset:
            _, on_the_way, then = self._asked.popleft()
            taken = max(now - then, _CLOCK_SECONDS)
            self._earliest = min(self._earliest, taken)
            room = on_the_way * _LATER * self._earliest / taken
            self.room = int(min(MOST_BYTES, max(LEAST_BYTES, room)))
