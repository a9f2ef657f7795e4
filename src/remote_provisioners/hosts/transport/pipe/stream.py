"""The server's ends of a pipe's streams."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ....protocol.multiplex import (
    CLOSE,
    DATA,
    END,
    ERRORS,
    EXIT,
    READY,
    REFUSED,
    Multiplexer,
)
from ..base import Carried


class Pipe(Protocol):
    """The part of a pipe that its streams use."""

    streams: Multiplexer

    def queue(self, stream: int, kind: int, body: bytes = b"") -> bool:
        """Send on a stream. Returns whether its source may go on."""

    def used(self, stream: int, amount: int) -> None:
        """`amount` bytes of a stream have been delivered."""

    def leave(self, end: End) -> None:
        """Drop a stream at once: nobody here needs it any more."""

    def over(self, end: End) -> None:
        """The other end has ended the stream."""

    def finish(self, end: End) -> None:
        """End the stream once its queued data has been sent."""


class End:
    """The server's end of a stream."""

    def __init__(self, pipe: Pipe, stream: int) -> None:
        self.pipe, self.stream = pipe, stream

    def receive(self, kind: int, body: bytes) -> None:
        """A frame has arrived."""

    def relieved(self) -> None:
        """Enough queued data has been sent: writing may go on."""

    def lost(self, error: ConnectionError) -> None:
        """The pipe is gone."""


def seen(future: asyncio.Future[Any]) -> None:
    """Mark an exception as seen: when a pipe is lost, perhaps nobody waits for the future."""
    if not future.cancelled():
        future.exception()


class Answer(End):
    """A request to the other end that waits for its answer."""

    def __init__(self, pipe: Pipe, stream: int) -> None:
        super().__init__(pipe, stream)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answered.add_done_callback(seen)

    def receive(self, kind: int, body: bytes) -> None:
        if self.answered.done():
            return
        if kind == READY:
            self.answered.set_result(None)
        elif kind in (REFUSED, CLOSE):
            said = body.decode("utf-8", "replace")
            self.answered.set_exception(ConnectionRefusedError(said))

    def lost(self, error: ConnectionError) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


class Program(End):
    """A program that runs on the host."""

    def __init__(self, pipe: Pipe, stream: int) -> None:
        super().__init__(pipe, stream)
        self.stdout, self.stderr = bytearray(), bytearray()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(seen)

    def send(self, data: bytes) -> None:
        if data:
            self.pipe.queue(self.stream, DATA, data)

    def receive(self, kind: int, body: bytes) -> None:
        if kind in (DATA, ERRORS):
            (self.stdout if kind == DATA else self.stderr).extend(body)
            self.pipe.used(self.stream, len(body))
        elif kind == EXIT and not self.ended.done():
            self.pipe.over(self)
            self.ended.set_result(int(body))

    def lost(self, error: ConnectionError) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


class ProgramCarrier(End):
    """A program that runs on the host and carries another pipe."""

    def __init__(self, pipe: Pipe, stream: int, carried: Carried) -> None:
        super().__init__(pipe, stream)
        self._carried = carried
        self._full = self._over = False
        carried.begin(self)

    # -- Carrier ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._over or not data:
            return
        if not self.pipe.queue(self.stream, DATA, data) and not self._full:
            self._full = True
            self._carried.pause_writing()

    def close(self) -> None:
        if not self._over:
            self.pipe.queue(self.stream, END)

    def abort(self) -> None:
        if not self._over:
            self.pipe.leave(self)
            self._end(None)

    # -- End --------------------------------------------------------------------------------

    def receive(self, kind: int, body: bytes) -> None:
        if kind in (DATA, ERRORS):
            self.pipe.used(self.stream, len(body))
            if kind == DATA:
                self._carried.data_received(body)
            else:
                self._carried.errors_received(body)
        elif kind == EXIT:
            self.pipe.over(self)
            self._end(int(body))

    def relieved(self) -> None:
        if self._full and not self._over:
            self._full = False
            self._carried.resume_writing()

    def lost(self, error: ConnectionError) -> None:
        self._end(None)

    def _end(self, returncode: int | None) -> None:
        if not self._over:
            self._over = True
            self._carried.ended(returncode)


class PipeStream(Answer, asyncio.Transport):
    """A stream as an asyncio transport."""

    def __init__(self, pipe: Pipe, stream: int) -> None:
        Answer.__init__(self, pipe, stream)
        asyncio.Transport.__init__(self)
        self._protocol: Any = None
        #: Frames that arrived before a protocol could take them.
        self._early: list[tuple[int, bytes]] = []
        self._paused = self._closing = self._over = self._full = False
        self._lost: ConnectionError | None = None

    def join(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver the stream to this protocol from now on."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._lost is not None:  # between the other end's answer and this call
            self.lost(self._lost)
        else:
            self._deliver()

    # -- the pipe's side --------------------------------------------------------------------

    def receive(self, kind: int, body: bytes) -> None:
        if not self.answered.done():
            super().receive(kind, body)
            return
        if kind == CLOSE:
            self.pipe.over(self)
        if self._protocol is None or self._paused or self._early:
            self._early.append((kind, body))
        else:
            self._take(kind, body)

    def _deliver(self) -> None:
        while self._early and not self._paused and self._protocol is not None:
            self._take(*self._early.pop(0))

    def _take(self, kind: int, body: bytes) -> None:
        if kind == DATA:
            self._data(body)
        elif kind == END:
            self._end()
        elif kind == CLOSE:
            self.lost(None)

    def _data(self, body: bytes) -> None:
        self.pipe.used(self.stream, len(body))
        if not self._closing:
            self._protocol.data_received(body)

    def _end(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def relieved(self) -> None:
        if self._full and not self._over:
            self._full = False
            self._protocol.resume_writing()

    def lost(self, error: Exception | None) -> None:
        if isinstance(error, ConnectionError):
            self._lost = error
            super().lost(error)
        if not self._over and self._protocol is not None:
            self._over = self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)

    # -- asyncio.Transport ------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        if not self.pipe.queue(self.stream, DATA, bytes(data)) and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        if not self._closing:
            self.pipe.queue(self.stream, END)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.pipe.finish(self)
            self.lost(None)

    def abort(self) -> None:
        self._closing = True
        self.pipe.leave(self)
        self.lost(None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._early:
            asyncio.get_running_loop().call_soon(self._deliver)

    def get_write_buffer_size(self) -> int:
        return self.pipe.streams.queued(self.stream)
