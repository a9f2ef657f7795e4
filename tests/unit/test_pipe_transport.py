"""The server's end of a pipe, when the other end ends streams or the pipe at a bad moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts.transport.pipe.transport import PipeTransport
from remote_provisioners.protocol.multiplex import (
    ACCEPTED,
    CLOSE,
    DATA,
    LISTEN,
    OPEN,
    PONG,
    READY,
    FrameDecoder,
    frame,
)


class OtherEnd:
    """Answers each request of the server with the frames that `answer` makes."""

    def __init__(self, answer: Callable[[int, int], bytes]) -> None:
        self._answer, self._decoder = answer, FrameDecoder()
        self.pipe = PipeTransport(self)
        self.kinds: list[int] = []

    def write(self, data: bytes) -> None:
        for kind, stream, _ in self._decoder.feed(data):
            self.kinds.append(kind)
            answer = self._answer(kind, stream) if kind in (OPEN, LISTEN) else b""
            if answer:
                self.pipe.data_received(answer)

    def close(self) -> None:
        self.pipe.carrier_lost("closed")

    abort = close


@contextlib.asynccontextmanager
async def pipe_to(answer: Callable[[int, int], bytes]) -> AsyncIterator[PipeTransport]:
    pipe = OtherEnd(answer).pipe
    try:
        yield pipe
    finally:
        pipe.abort()


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.received, self.lost = b"", asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.transport.pause_reading()
        asyncio.get_running_loop().call_later(0.01, self.transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def test_a_stream_that_ends_with_its_answer() -> None:
    """All frames come in one batch, before the client is there. The client reads slowly."""

    def answer(kind: int, stream: int) -> bytes:
        data = [frame(DATA, stream, b"some "), frame(DATA, stream, b"data")]
        return b"".join([frame(READY, stream), *data, frame(CLOSE, stream)])

    async def main() -> None:
        async with pipe_to(answer) as pipe:
            client: Any = await pipe.open("/socket", Client)
            await asyncio.wait_for(client.lost.wait(), 5)
            assert client.received == b"some data"

    asyncio.run(main())


def test_an_accepted_stream_that_ends_at_once(tmp_path: Path) -> None:
    """A program on the host connects to a socket that leads to one here, and is killed."""

    def answer(kind: int, stream: int) -> bytes:
        accepted = frame(ACCEPTED, 2, b"%d" % stream)
        return b"".join([frame(READY, stream), accepted, frame(DATA, 2, b"hi"), frame(CLOSE, 2)])

    async def main() -> None:
        client = Client()
        path = os.path.relpath(tmp_path / "here")
        server = await asyncio.get_running_loop().create_unix_server(lambda: client, path)
        async with server, pipe_to(answer) as pipe:
            await pipe.expose(path, "/there")
            await asyncio.wait_for(client.lost.wait(), 5)
            assert client.received == b"hi"

    asyncio.run(main())


def test_a_pipe_that_is_lost_meanwhile() -> None:
    """A waiting request fails because the host is unreachable. It does not look cancelled."""

    async def main() -> None:
        async with pipe_to(lambda kind, stream: b"") as pipe:
            exposing = asyncio.ensure_future(pipe.expose("/here", "/there"))
            await asyncio.sleep(0.01)
            pipe.carrier_lost("the connection is gone")
            with pytest.raises(UnreachableError, match="the connection is gone"):
                await exposing

    asyncio.run(main())


def test_a_pipe_that_is_lost_already() -> None:
    async def main() -> None:
        async with pipe_to(lambda kind, stream: b"") as pipe:
            pipe.carrier_lost("the connection is gone")
            with pytest.raises(UnreachableError, match="the connection is gone"):
                await pipe.run(["true"], b"")
            with pytest.raises(UnreachableError, match="the connection is gone"):
                await pipe.expose("/here", "/there")

    asyncio.run(main())


def test_what_comes_is_acknowledged_unless_something_is_sent_anyway() -> None:
    async def main() -> None:
        other = OtherEnd(lambda kind, stream: b"")
        pipe = other.pipe
        pipe.acknowledges = True
        for number in range(3):
            pipe.data_received(frame(PONG, 0))
            pipe.data_received(frame(PONG, 0))
            while other.kinds.count(PONG) <= number:
                await asyncio.sleep(0.001)
        assert other.kinds == [PONG] * 3
        pipe.data_received(frame(PONG, 0))
        opening = asyncio.ensure_future(pipe.open("/socket", Client))
        await asyncio.sleep(0.05)
        assert other.kinds == [PONG] * 3 + [OPEN]
        pipe.abort()
        with pytest.raises(ConnectionError):
            await opening

    asyncio.run(main())
