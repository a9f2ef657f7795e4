"""Dropped output: the number of messages of each cell, and the cell's last state.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple

from ...protocol import zmtp
from ...protocol.unanswered_requests import DELIMITER

NO_PARENT = b"{}"
#: If more cells have lost output, the earlier ones get no notice.
_MOST_CELLS = 100

#: A parent header, the number of its messages, and the last of them with the kernel's status.
Run = Tuple[bytes, int, Optional[bytes]]


class Gap:
    """Runs of messages in order, each with one parent."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs: List[Run] = list(runs)

    @classmethod
    def of(cls, messages: Iterable[bytes]) -> Gap:
        runs: List[Run] = []
        parent, count, status = NO_PARENT, 0, None
        for raw in messages:
            # Searching for it takes a hundredth of the time that parsing the message takes.
            same = count and parent != NO_PARENT and parent in raw
            found = parent if same else parent_of(raw)
            if found != parent and count:
                runs.append((parent, count, status))
                count, status = 0, None
            parent, count = found, count + 1
            if zmtp.topic(raw).endswith(b"status"):
                status = raw
        return cls([*runs, (parent, count, status)] if count else runs)

    @property
    def count(self) -> int:
        return sum(count for _, count, _ in self.runs)

    def after(self, skipped: int) -> Gap:
        """Without the first `skipped` messages."""
        runs = []
        for parent, count, status in self.runs:
            if count > skipped:
                runs.append((parent, count - skipped, status))
            skipped = max(0, skipped - count)
        return Gap(runs)

    def extend(self, other: Gap) -> None:
        self.runs += other.runs

    def by_cell(self) -> List[Run]:
        """One run for each parent."""
        cells: Dict[bytes, Run] = {}
        for parent, count, status in self.runs:
            _, before, earlier = cells.pop(parent, (parent, 0, None))
            cells[parent] = (parent, before + count, status or earlier)
        return list(cells.values())[-_MOST_CELLS:]

    def shortened(self) -> Gap:
        """The same number of messages, but only the last cells."""
        total, cells = self.count, self.by_cell()
        missing = total - sum(count for _, count, _ in cells)
        return Gap([(NO_PARENT, missing, None), *cells] if missing else cells)


def parent_of(raw: bytes) -> bytes:
    """The parent header of a message; empty if it is not a Jupyter message."""
    frames = zmtp.bodies(raw, 12)
    try:
        return frames[frames.index(DELIMITER) + 3]
    except (ValueError, IndexError):
        return NO_PARENT
