"""Streams: frames however they are cut, offsets, and links that are lost at any moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_provisioners.protocol import stream as module
from remote_provisioners.protocol.frames import (
    _HEADER,
    ACK,
    CLOSE,
    DATA,
    HELLO,
    FrameReader,
    frame,
)
from remote_provisioners.protocol.outgoing import Outgoing
from remote_provisioners.protocol.pace import LEAST_BYTES, Traffic
from remote_provisioners.protocol.stream import Link, SocketEnd, Stream
from remote_provisioners.protocol.wire import WireError

from ..conftest import share


def frames(kinds_and_bodies: list[tuple[int, bytes]]) -> bytes:
    return b"".join(frame(k, b) for k, b in kinds_and_bodies)


KINDS = st.sampled_from([HELLO, DATA, ACK, CLOSE])


@given(st.lists(st.tuples(KINDS, st.binary(max_size=20))), st.lists(st.integers(1, 30)))
def test_frames_however_they_are_cut(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    reader, data, got = FrameReader(), frames(sent), []
    for cut in [*cuts, len(data)]:
        got += list(reader.feed(data[:cut]))
        data = data[cut:]
    assert [f for f in got if f[0] != DATA] == [f for f in sent if f[0] != DATA]
    assert b"".join(b for k, b in got if k == DATA) == b"".join(b for k, b in sent if k == DATA)


@pytest.mark.parametrize("head", [(0, 0), (9, 1), (HELLO, 1 << 30), (ACK, 1 << 30)])
def test_no_frame_of_ours(head: tuple[int, int]) -> None:
    with pytest.raises(WireError):
        list(FrameReader().feed(_HEADER.pack(*head)))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.binary(min_size=1, max_size=9)),
        st.tuples(st.sampled_from(["take", "arrive", "acknowledge", "lose"]), st.just(b"")),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 4))
def test_each_byte_arrives_once_in_order(steps: list[tuple[str, bytes]], size: int) -> None:
    """Whenever the link is lost, with what is on the way in both directions."""
    outgoing, pushed, received, way = Outgoing(), b"", b"", []
    for step, data in [*steps, ("lose", b""), *[("take", b"")] * 300, *[("arrive", b"")] * 300]:
        if step == "push":
            outgoing.push(data)
            pushed += data
        elif step == "take":
            piece = outgoing.take(size)
            way += [bytes(piece)] if piece is not None else []
        elif step == "arrive":
            received += way.pop(0) if way else b""
        elif step == "acknowledge":
            outgoing.acknowledge(len(received))
        else:
            way.clear()
            outgoing.rewind(len(received))
        assert outgoing.kept == len(pushed) - outgoing.acknowledged
    assert received == pushed


def test_what_was_never_sent_is_not_acknowledged() -> None:
    outgoing = Outgoing()
    outgoing.push(b"abc")
    for refused in (outgoing.acknowledge, outgoing.rewind):
        with pytest.raises(WireError):
            refused(1)
    outgoing.take()
    outgoing.acknowledge(2)
    with pytest.raises(WireError):
        outgoing.rewind(1)


class Socket:
    """A program's socket at one end of a stream."""

    def __init__(self) -> None:
        self.got = b""
        self.reading = True
        self.closed = False

    def write(self, data: bytes) -> None:
        self.got += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


class Pipe:
    """A link between two streams that can be cut."""

    def __init__(self, one: Stream, two: Stream) -> None:
        self.ends = [_PipeEnd(self, 0), _PipeEnd(self, 1)]
        self.links = [Link(lambda *_: None, lambda *_: None) for _ in range(2)]
        self.open = True
        for link, end in zip(self.links, self.ends, strict=True):
            link.connection_made(end)  # type: ignore[arg-type]
        one.attach(self.links[0], two.received)
        two.attach(self.links[1], one.received)

    def cut(self) -> None:
        self.open = False
        for link in self.links:
            link.connection_lost(None)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0.005)


class _PipeEnd:
    def __init__(self, pipe: Pipe, number: int) -> None:
        self._pipe, self._number, self._paused = pipe, number, False

    def write(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if self._pipe.open:
            self._pipe.links[1 - self._number].data_received(data)

    def is_closing(self) -> bool:
        return not self._pipe.open

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(lambda: self._pipe.open and self._pipe.cut())

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def two_ends() -> tuple[Stream, Stream, Socket, Socket]:
    streams, sockets = (Stream(), Stream()), (Socket(), Socket())
    for stream, socket in zip(streams, sockets, strict=True):
        stream.join(socket)
    return (*streams, *sockets)


def test_streams_go_on_over_the_next_link() -> None:
    async def body() -> None:
        one, two, here, there = two_ends()
        one.send(b"before ")
        for number in range(5):
            pipe = Pipe(one, two)
            one.send(b"%d " % number)
            if number % 2:
                await pipe.settle()
            two.send(b"%d-" % number)
            pipe.cut()
            one.send(b"away ")
        last = Pipe(one, two)
        await last.settle()
        assert there.got == b"before " + b"".join(b"%d away " % n for n in range(5))
        assert here.got == b"0-1-2-3-4-"
        assert one.outgoing.kept == two.outgoing.kept == 0

    asyncio.run(body())


def test_closing_comes_after_the_data_and_over_the_next_link() -> None:
    async def body() -> None:
        one, two, here, there = two_ends()
        Pipe(one, two).cut()
        one.send(b"last words")
        one.finish()
        assert not one.over
        await Pipe(one, two).settle()
        assert there.got == b"last words"
        assert one.over
        assert two.over
        assert there.closed
        assert here.closed

    asyncio.run(body())


def test_what_was_heard_is_acknowledged_before_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ACK_SECONDS", 100)

    async def body() -> None:
        one, two, here, _ = two_ends()
        pipe = Pipe(one, two)
        two.send(b"heard")
        await pipe.settle()
        assert here.got == b"heard"
        assert two.outgoing.kept == 5
        one.finish()
        await pipe.settle()
        assert two.over
        assert two.outgoing.kept == 0

    asyncio.run(body())


def test_it_stops_reading_when_too_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 100)

    async def body() -> None:
        one, two, here, there = two_ends()
        one.send(b"x" * 99)
        assert here.reading
        one.send(b"x")
        assert not here.reading
        await Pipe(one, two).settle()
        assert here.reading
        assert there.got == b"x" * 100

    asyncio.run(body())


def test_of_several_kernels_none_has_much_on_the_way() -> None:
    """One prints, another one says a word: what it says next is behind no more than that."""

    async def body() -> None:
        traffic = Traffic()
        printing, far = Stream(traffic=traffic, sender="a"), Stream()
        talking = Stream(traffic=traffic, sender="b")
        there = Socket()
        printing.join(Socket())
        far.join(there)
        pipe = Pipe(printing, far)
        talking.send(b"a word")
        output = bytes(4 * 1024 * 1024)
        printing.send(output)
        assert 0 < printing.outgoing.on_the_way <= LEAST_BYTES
        await pipe.settle()  # it is asked for what has arrived, and so it goes on
        assert there.got == output
        assert printing.outgoing.kept == 0

    asyncio.run(body())


def test_a_kernel_that_is_alone_fills_the_connection() -> None:
    async def body() -> None:
        traffic = Traffic()
        printing, other = Stream(traffic=traffic, sender="a"), Stream(traffic=traffic, sender="a")
        printing.join(Socket())
        Pipe(printing, Stream())
        other.send(b"of the same kernel")
        printing.send(bytes(4 * 1024 * 1024))
        assert printing.outgoing.all_sent

    asyncio.run(body())


def test_somebody_elses_protocol_ends_it() -> None:
    async def body() -> None:
        one, two, here, _ = two_ends()
        pipe = Pipe(one, two)
        pipe.links[0].data_received(frames([(ACK, bytes(8)), (ACK, b"\xff" * 8)]))
        assert one.over
        assert here.closed
        await pipe.settle()

    asyncio.run(body())


def test_what_comes_before_the_socket_is_there_waits() -> None:
    async def body() -> None:
        one, two = Stream(), Stream()
        here, there = Socket(), Socket()
        one.join(here)
        one.send(b"early")
        pipe = Pipe(one, two)
        await pipe.settle()
        assert two.received == 0
        two.join(there)
        await pipe.settle()
        assert there.got == b"early"
        assert one.outgoing.kept == 0

    asyncio.run(body())


@settings(max_examples=share(0.1))
@given(st.integers(1, 3))
def test_a_real_socket(times: int) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        import socket  # noqa: PLC0415

        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        one, two, there = Stream(), Stream(), Socket()
        two.join(there)
        transport, _ = await loop.create_unix_connection(lambda: SocketEnd(one), sock=ours)
        payload = bytes(range(256)) * 2000
        for _ in range(times):
            pipe = Pipe(one, two)
            await loop.sock_sendall(theirs, payload)
            pipe.cut()
        theirs.close()
        await Pipe(one, two).settle()
        assert there.got == payload * times
        assert there.closed
        transport.close()
        await asyncio.sleep(0)

    run: Any = asyncio.run
    run(body())
