"""A host by a pipe: stdin and stdout of one process on the host carry everything.

A program of this machine (process.py) leads to that process, or a channel of our own SSH connection
(by_asyncssh/pipe.py). agent/pipe/host_end.py is the host's end.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ....agent.pipe.host_end import SILENT_SECONDS
from ....errors import ForwardingError, UnreachableError
from ....protocol import joined
from ....protocol.multiplex import (
    ACCEPTED,
    CLOSE,
    END,
    LISTEN,
    OPEN,
    PING,
    PONG,
    RUN,
    Multiplexer,
    PipeError,
)
from ..base import Carried, Completed, Endpoint, Transport
from .stream import Answer, End, PipeStream, Program, ProgramCarrier, seen

_BATCH_BYTES = 256 * 1024
_ACKNOWLEDGE_SECONDS = 0.002
#: We give up a host that is silent for three of these.
KEEPALIVE_SECONDS = SILENT_SECONDS / 12


class Carrier(Protocol):
    """Carries a pipe's bytes. It calls the PipeTransport's methods for carriers."""

    def write(self, data: bytes) -> None:
        """Send."""

    def close(self) -> None:
        """Send no more; the process then ends by itself."""

    def abort(self) -> None:
        """End the process now."""


class PipeTransport(Transport):
    """An open pipe, whose other end serves."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.streams = Multiplexer()
        self._ends: dict[int, End] = {}
        self._numbers = itertools.count(1, 2)
        self._listening: dict[str, asyncio.Task[None]] = {}
        #: The path on the host of each stream that listens there, and the path here for each.
        self._host_paths: dict[int, str] = {}
        self._local_paths: dict[str, str] = {}
        self._joining: set[asyncio.Task[None]] = set()
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._writable, self._flushing = True, False
        #: Whether to acknowledge what comes within 2 ms. On the way of such a pipe is a TCP
        #: connection with Nagle's algorithm: a small packet waits for the acknowledgement of the
        #: one before it, which Linux delays by 40 ms if it cannot travel with data.
        self.acknowledges = False
        self._acknowledging: asyncio.TimerHandle | None = None
        #: Whether the other end has said anything.
        self.heard = False
        self._heard = time.monotonic()
        self._keepalive = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._ask)

    # -- Transport --------------------------------------------------------------------------

    async def run(self, argv: Sequence[str], stdin: bytes, after: bytes = b"") -> Completed:
        program = Program(self, self._program_number())
        self._begin(program, RUN, "\0".join(argv).encode("utf-8", "surrogateescape"))
        try:
            program.send(stdin)
            self.queue(program.stream, END)
            returncode = await program.ended
        except ConnectionError as error:
            raise UnreachableError(f"cannot run a command: {error}") from None
        finally:
            self.leave(program)
        return Completed(
            returncode if returncode >= 0 else None, bytes(program.stdout), bytes(program.stderr)
        )

    async def begin(self, argv: Sequence[str], carried: Carried) -> None:
        program = ProgramCarrier(self, self._program_number(), carried)
        self._begin(program, RUN, "\0".join(argv).encode("utf-8", "surrogateescape"))

    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        stream = PipeStream(self, self._number())
        self._begin(stream, OPEN, str(endpoint).encode("utf-8", "surrogateescape"))
        try:
            await stream.answered
        except BaseException:
            self.leave(stream)
            raise
        protocol = protocol_factory()
        stream.join(protocol)
        return protocol

    async def expose(self, local_path: str, host_path: str) -> str:
        self._local_paths[host_path] = local_path
        if host_path not in self._listening:
            task = asyncio.ensure_future(self._listen_there(host_path))
            task.add_done_callback(seen)
            self._listening[host_path] = task
        try:
            await asyncio.shield(self._listening[host_path])
        except ConnectionRefusedError as error:
            self._listening.pop(host_path, None)
            raise ForwardingError(f"cannot make the socket {host_path} there: {error}") from None
        except ConnectionError as error:
            raise UnreachableError(str(error)) from None
        return host_path

    async def wait_closed(self) -> str:
        return await asyncio.shield(self._closed)

    def call_when_closed(self, call: Callable[[str], None]) -> None:
        """Call with the reason when the connection is gone."""
        self._closed.add_done_callback(lambda closed: call(closed.result()))

    async def close(self) -> None:
        self._flush()
        self._carrier.close()
        await asyncio.shield(self._closed)

    def abort(self) -> None:
        self._carrier.abort()
        self.carrier_lost("closed")

    # -- the carrier's calls ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.heard, self._heard = True, time.monotonic()
        try:
            for kind, number, body in self.streams.receive(data):
                if kind == ACCEPTED:
                    self._accepted(number, int(body))
                elif number in self._ends:
                    self._ends[number].receive(kind, body)
        except (PipeError, ValueError) as error:
            self._fail(f"another program has written to the pipe: {error}")
        if self.acknowledges and self._acknowledging is None:
            loop = asyncio.get_running_loop()
            self._acknowledging = loop.call_later(_ACKNOWLEDGE_SECONDS, self._acknowledge)
        self._flush_soon()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._flush_soon()

    def carrier_lost(self, reason: str) -> None:
        """The process has ended, or is to be taken for that."""
        if self._closed.done():
            return
        self._closed.set_result(reason)
        self._keepalive.cancel()
        for task in self._joining:
            task.cancel()
        for end in list(self._ends.values()):
            end.lost(ConnectionResetError(reason))
        self._ends.clear()

    # -- streams ----------------------------------------------------------------------------

    def queue(self, stream: int, kind: int, body: bytes = b"") -> bool:
        """Send on a stream. Returns whether its source may go on."""
        self._flush_soon()
        return self.streams.send(stream, kind, body)

    def leave(self, end: End) -> None:
        """Drop a stream at once: nobody here needs it any more."""
        if self._ends.pop(end.stream, None) is not None:
            self.streams.drop(end.stream)
            self._flush_soon()

    def over(self, end: End) -> None:
        """The other end has ended the stream."""
        self._ends.pop(end.stream, None)
        self.streams.forget(end.stream)

    def finish(self, end: End) -> None:
        """End the stream once its queued data has been sent."""
        if self._ends.pop(end.stream, None) is not None:
            self.queue(end.stream, CLOSE)

    def used(self, stream: int, amount: int) -> None:
        """`amount` bytes of a stream have been delivered."""
        self.streams.used(stream, amount)
        if not self.streams.idle:
            self._flush_soon()

    def _number(self) -> int:
        if self._closed.done():
            raise ConnectionResetError(self._closed.result())
        return next(self._numbers)

    def _program_number(self) -> int:
        try:
            return self._number()
        except ConnectionError as error:
            raise UnreachableError(f"cannot run a command: {error}") from None

    def _begin(self, end: End, kind: int, body: bytes) -> None:
        self._ends[end.stream] = end
        self.streams.begin(end.stream)
        self.streams.say(kind, end.stream, body)
        self._flush_soon()

    async def _listen_there(self, host_path: str) -> None:
        listener = Answer(self, self._number())
        self._host_paths[listener.stream] = host_path
        self._begin(listener, LISTEN, host_path.encode("utf-8", "surrogateescape"))
        await listener.answered

    def _accepted(self, number: int, listener: int) -> None:
        """A program on the host has connected to a socket that stands for one of this machine."""
        stream = PipeStream(self, number)
        stream.answered.set_result(None)
        self._ends[number] = stream
        self.streams.begin(number)
        path = self._local_paths.get(self._host_paths.get(listener, ""), "")
        task = asyncio.ensure_future(self._join_here(stream, path))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join_here(self, stream: PipeStream, path: str) -> None:
        loop = asyncio.get_running_loop()
        here, there = joined.End(), joined.End()
        here.other, there.other = there, here
        try:
            await loop.create_unix_connection(lambda: here, path)
        except OSError:
            self.leave(stream)
            return
        stream.join(there)

    # -- writing and waiting ----------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flushing and self._writable:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._acknowledging is not None and not self.streams.idle:
            self._acknowledging.cancel()
            self._acknowledging = None
        while self._writable and not self.streams.idle and not self._closed.done():
            pieces, relieved = self.streams.take(_BATCH_BYTES)
            self._carrier.write(b"".join(pieces))
            for stream in relieved:
                if stream in self._ends:
                    self._ends[stream].relieved()

    def _acknowledge(self) -> None:
        """Send a frame that asks for nothing: TCP's acknowledgement travels with it."""
        self._acknowledging = None
        if not self._closed.done():
            self.streams.say(PONG)
            self._flush_soon()

    def _ask(self) -> None:
        """Send a ping regularly; give up the pipe when the other end stays silent."""
        silent = time.monotonic() - self._heard
        if silent > 3 * KEEPALIVE_SECONDS:
            self._fail(f"no answer for {silent:.0f} s")
            return
        self.streams.say(PING)
        self._flush_soon()
        self._keepalive = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._ask)

    def _fail(self, reason: str) -> None:
        self.carrier_lost(reason)
        self._carrier.abort()
