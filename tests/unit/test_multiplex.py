"""Many streams over one pipe: nothing lost or reordered, however it is cut; fair; bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_provisioners.protocol.multiplex import (
    DATA,
    END,
    ERRORS,
    FULL_BYTES,
    WINDOW_BYTES,
    FrameDecoder,
    Multiplexer,
    PipeError,
    frame,
)


def all_of(sender: Multiplexer, most: int = 100_000) -> bytes:
    return b"".join(sender.take(most)[0])


@given(
    st.lists(st.tuples(st.integers(1, 3), st.binary(min_size=1, max_size=200)), max_size=30),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_arrives_in_order_however_it_is_cut(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    sender, receiver = Multiplexer(), Multiplexer()
    for stream in (1, 2, 3):
        sender.begin(stream)
    for stream, data in sent:
        sender.send(stream, DATA, data)
    for stream in (1, 2, 3):
        sender.send(stream, END)
    received = {1: b"", 2: b"", 3: b""}
    ended = []
    wire = b""
    while not sender.idle:
        wire += all_of(sender)
    turn = 0
    while wire:
        size = cuts[turn % len(cuts)]
        turn += 1
        for kind, stream, body in receiver.receive(wire[:size]):
            if kind == END:
                ended.append(stream)
            else:
                received[stream] += body
        wire = wire[size:]
    for stream in (1, 2, 3):
        assert received[stream] == b"".join(data for number, data in sent if number == stream)
    assert sorted(ended) == [1, 2, 3]


def test_no_more_is_sent_than_the_other_side_has_room_for() -> None:
    sender, receiver = Multiplexer(), Multiplexer()
    for end in (sender, receiver):
        end.begin(1)
    sender.send(1, DATA, b"x" * (WINDOW_BYTES + 1000))
    sender.send(1, END)
    got = 0
    while not sender.idle:
        got += sum(len(body) for _, _, body in receiver.receive(all_of(sender)))
    assert got == WINDOW_BYTES
    receiver.used(1, got)
    assert list(sender.receive(all_of(receiver))) == []
    rest = list(receiver.receive(all_of(sender)))
    assert sum(len(body) for _, _, body in rest) == 1000
    assert rest[-1][0] == END


def test_a_small_message_passes_a_big_one() -> None:
    sender, receiver = Multiplexer(), Multiplexer()
    sender.begin(1)
    sender.begin(2)
    sender.send(1, DATA, b"x" * WINDOW_BYTES)
    all_of(sender, 1)  # a turn
    sender.send(2, DATA, b"small")
    before = 0
    for _, stream, body in receiver.receive(all_of(sender, WINDOW_BYTES)):
        if stream == 2:
            break
        before += len(body)
    assert before <= 64 * 1024


def test_control_goes_first() -> None:
    sender = Multiplexer()
    sender.begin(1)
    sender.send(1, DATA, b"x" * 100_000)
    sender.used(1, WINDOW_BYTES)
    assert not all_of(sender, 1).startswith(frame(DATA, 1)[:5])


def test_a_source_is_told_to_stop_and_to_go_on() -> None:
    sender = Multiplexer()
    sender.begin(1)
    assert sender.send(1, DATA, b"x" * FULL_BYTES)
    assert not sender.send(1, ERRORS, b"x")
    relieved: list[int] = []
    while not sender.idle:
        relieved += sender.take(1)[1]
    assert relieved == [1]


def test_what_is_dropped_is_not_sent() -> None:
    sender, receiver = Multiplexer(), Multiplexer()
    sender.begin(1)
    sender.send(1, DATA, b"x" * 1000)
    sender.drop(1)
    assert [body for _, _, body in receiver.receive(all_of(sender))] == [b""]
    sender.send(1, DATA, b"late")
    assert sender.idle


def test_a_ping_is_answered() -> None:
    one, other = Multiplexer(), Multiplexer()
    one.say(13)
    assert list(other.receive(all_of(one))) == []
    assert not other.idle
    assert list(one.receive(all_of(other))) == []
    assert one.idle


@pytest.mark.parametrize(
    "noise", [b"\0" * 9, b"Last login: today from here", b"\x01\0\0\0\1\xff\0\0\0"]
)
def test_something_else_is_refused(noise: bytes) -> None:
    with pytest.raises(PipeError):
        list(FrameDecoder().feed(noise))
