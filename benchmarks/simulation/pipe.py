"""Two protocols joined without a socket, as a pair of asyncio transports."""

from __future__ import annotations

import asyncio


class Stream(asyncio.Transport):
    """One end. As from a socket, what was written at one moment is read at once, later."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol | None = protocol
        self._other: Stream | None = None
        self._unread: list[bytes] = []
        self._paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._protocol is not None and self._other is not None:
            self._other._arrive(bytes(data))

    def close(self) -> None:
        other, self._other = self._other, None
        if other is not None:
            self._loop.call_soon(self._lost)
            other.close()

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._other is None

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._unread:
            self._loop.call_soon(self._read)

    def _arrive(self, data: bytes) -> None:
        if not self._unread and not self._paused:
            self._loop.call_soon(self._read)
        self._unread.append(data)

    def _read(self) -> None:
        if self._protocol is not None and self._unread and not self._paused:
            data = b"".join(self._unread)
            self._unread.clear()
            self._protocol.data_received(data)

    def _lost(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(None)


def join(near: asyncio.Protocol, far: asyncio.Protocol) -> Stream:
    """Connect them; returns the near end's transport."""
    here, there = Stream(near), Stream(far)
    here._other, there._other = there, here
    far.connection_made(there)
    near.connection_made(here)
    return here
