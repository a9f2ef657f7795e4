"""A connection for files to the agent. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..errors import UnreachableError
from ..protocol.files import CHUNK, CHUNK_BYTES
from ..protocol.structure import FieldError, Structure
from ..protocol.wire import encode

S = TypeVar("S", bound=Structure)

#: A side that holds more than this stops reading.
_FULL_BYTES = 4 * CHUNK_BYTES
_LONGEST = 64 * 1024 * 1024


class FileConnection(asyncio.Protocol):
    """One request at a time. Memory is constant: reading and writing wait for each other."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = False
        self._received = bytearray()
        self._paused = False
        self._other: asyncio.Future[Any] | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > _FULL_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        self.connection_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._changed.set()
        self._writable.set()
        if self._other is not None and not self._other.done():
            self._other.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def ends_with(self, other: Coroutine[Any, Any, Any]) -> None:
        """Count as lost when `other`, the host's connection, is over."""
        self._other = asyncio.ensure_future(other)
        self._other.add_done_callback(lambda _: self.connection_lost(None))

    # -- use --------------------------------------------------------------------------------

    @property
    def spoken(self) -> bool:
        """Whether unread data of the agent is there."""
        return bool(self._received)

    async def say(self, message: Structure) -> None:
        """Raises UnreachableError."""
        await self._send(encode(message.fields()))

    async def send_chunk(self, data: bytes) -> None:
        """Send a part of a file; empty data ends the file. Raises UnreachableError."""
        await self._send(CHUNK.pack(len(data)))
        if data:
            await self._send(data)

    async def hear(self, kind: type[S]) -> S:
        """The agent's next message. Raises UnreachableError."""
        (length,) = CHUNK.unpack(await self._exactly(CHUNK.size))
        if length > _LONGEST:
            raise UnreachableError("the agent speaks another protocol")
        try:
            return kind.read(json.loads(await self._exactly(length)))
        except (ValueError, FieldError) as error:
            raise UnreachableError(f"the agent's answer cannot be read: {error}") from None

    async def hear_chunk(self) -> bytes:
        """The next part of a file; empty at its end. Raises UnreachableError."""
        (length,) = CHUNK.unpack(await self._exactly(CHUNK.size))
        return await self._exactly(length)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.connection_lost(None)

    async def _send(self, data: bytes) -> None:
        await self._writable.wait()
        if self.lost:
            raise UnreachableError("the connection was lost")
        self.transport.write(data)

    async def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            if self.lost:
                raise UnreachableError("the connection was lost")
            self._changed.clear()  # before data comes, which it may do while reading is resumed
            if self._paused:
                self._paused = False
                self.transport.resume_reading()
            await self._changed.wait()
        data = bytes(memoryview(self._received)[:size])
        del self._received[:size]
        return data
