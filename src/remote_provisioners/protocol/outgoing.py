"""The data that one side of a stream sends, kept until it is acknowledged. Pure.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional

from .frames import Piece
from .wire import WireError

PIECE_BYTES = 256 * 1024


class Outgoing:
    """Unsent data, and sent data without acknowledgement. Offsets count bytes."""

    def __init__(self) -> None:
        #: Everything before it has arrived at the other side.
        self.acknowledged = 0
        #: The offset of the next bytes.
        self.end = 0
        #: Everything before it was sent over the present link.
        self.sent_end = 0
        self._base = 0  # where the oldest piece that is kept begins
        self._sent: Deque[Piece] = deque()
        self._unsent: Deque[Piece] = deque()

    @property
    def kept(self) -> int:
        """Bytes without acknowledgement."""
        return self.end - self.acknowledged

    @property
    def on_the_way(self) -> int:
        """Sent bytes without acknowledgement."""
        return self.sent_end - self.acknowledged

    @property
    def all_sent(self) -> bool:
        return not self._unsent

    def unsent(self) -> bytes:
        """What was not sent over the present link."""
        return b"".join(self._unsent)

    def push(self, data: Piece) -> None:
        if data:
            self._unsent.append(data)
            self.end += len(data)

    def take(self, most: int = PIECE_BYTES) -> Optional[Piece]:
        """The next piece to send over the present link; None if all is sent."""
        if not self._unsent:
            return None
        piece = self._unsent.popleft()
        if len(piece) > most:
            view = memoryview(piece)
            self._unsent.appendleft(view[most:])
            piece = view[:most]
        self._sent.append(piece)
        self.sent_end += len(piece)
        return piece

    def acknowledge(self, offset: int) -> None:
        """The other side has received everything before `offset`. Raises WireError."""
        if not self.acknowledged <= offset <= self.sent_end:
            raise WireError("{} bytes acknowledged, {} sent".format(offset, self.sent_end))
        self.acknowledged = offset
        while self._sent and self._base + len(self._sent[0]) <= offset:
            self._base += len(self._sent.popleft())

    def rewind(self, offset: int) -> None:
        """Resend from `offset` over a new link; earlier bytes have arrived. Raises WireError."""
        self.acknowledge(offset)
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        if self._unsent and offset > self._base:
            self._unsent[0] = memoryview(self._unsent[0])[offset - self._base :]
        self._base = self.sent_end = offset
