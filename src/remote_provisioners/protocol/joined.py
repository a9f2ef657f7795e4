"""Two connections that are joined: what one receives, the other sends.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
from typing import Any, Optional


class End(asyncio.Protocol):
    """One of the two connections. Until `other` is there, a subclass handles what arrives."""

    def __init__(self) -> None:
        #: None before the connection is made and after it is lost.
        self.transport: Any = None
        self.other: Optional[End] = None
        #: Whether its peer sends nothing more.
        self.ended = False

    @property
    def _there(self) -> Any:
        return self.other.transport if self.other is not None else None

    def wait(self) -> None:
        """Read nothing yet. Call this in `connection_made`, and `resume_reading` when joined.

        Before Python 3.11.4 a transport begins to read after `connection_made`, although it was
        paused there. So it is paused a step later, before the loop looks at the socket.
        """
        asyncio.get_running_loop().call_soon(self._pause)

    def _pause(self) -> None:
        if self.transport is not None and self.other is None:
            self.transport.pause_reading()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._there is not None:
            self._there.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        there = self._there
        if there is not None and there.can_write_eof() and not there.is_closing():
            there.write_eof()
        # When both have ended, nothing follows, and a transport does not close by itself.
        return self.other is not None and not self.other.ended

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.transport = None
        if self._there is not None:
            self._there.close()

    # The data comes from the other connection, so that one pauses.
    def pause_writing(self) -> None:
        if self._there is not None:
            self._there.pause_reading()

    def resume_writing(self) -> None:
        if self._there is not None:
            self._there.resume_reading()
