"""How much of this process's CPU time belongs to what is only simulated."""

from __future__ import annotations

import time


class Meter:
    """Adds up the CPU time of the blocks that are run ``with`` it; they do not nest."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._began


#: Of all simulated agents.
agents = Meter()
