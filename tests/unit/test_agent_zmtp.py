"""ZMTP as libzmq speaks it, and messages however they are cut."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from remote_provisioners.protocol import zmtp

MESSAGES = st.lists(
    st.lists(
        st.one_of(st.binary(max_size=5), st.sampled_from([b"x" * 255, b"y" * 256])), min_size=1
    ),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 400)))
def test_messages_however_they_are_cut(sent: list[list[bytes]], cuts: list[int]) -> None:
    decoder, got = zmtp.Decoder(), []
    data = b"".join(zmtp.command(b"PING", b"x") + zmtp.message(bodies) for bodies in sent)
    for cut in [*cuts, len(data)]:
        got += list(decoder.feed(data[:cut])) if data[:cut] else []
        data = data[cut:]
    assert [zmtp.bodies(raw) for is_command, raw in got if not is_command] == sent
    assert [raw for is_command, raw in got if is_command] == [b"\4PINGx"] * len(sent)
    for is_command, raw in got:
        assert is_command or zmtp.topic(raw) == zmtp.bodies(raw)[0]


@given(MESSAGES, st.lists(st.integers(1, 400)), st.integers(1, 600))
def test_a_large_message_comes_in_parts(
    sent: list[list[bytes]], cuts: list[int], large: int
) -> None:
    """Whatever is large, and wherever it is cut: the parts are the message."""
    decoder, got, part = zmtp.Decoder(large), [], b""
    data = b"".join(zmtp.message(bodies) for bodies in sent)
    held = 0
    for cut in [*cuts, len(data)]:
        fed, data = data[:cut], data[cut:]
        held += len(fed)
        for kind, content in decoder.feed(fed) if fed else ():
            assert kind != zmtp.BEGINNING or (not part and len(content) >= large)
            part += content
            held -= len(content)
            if kind in (zmtp.MESSAGE, zmtp.END):
                got.append(part)
                part = b""
        assert held < large
    assert [zmtp.bodies(raw) for raw in got] == sent


def receive(connection: zmtp.Connection, peer: socket.socket, count: int) -> list[list[bytes]]:
    """Speak until `count` messages have come, or the handshake is done."""
    got: list[list[bytes]] = []
    while True:
        peer.sendall(connection.take_output())
        if len(got) >= count and connection.ready:
            return got
        got += [zmtp.bodies(raw) for raw in connection.feed(peer.recv(65536))]


@pytest.fixture
def context() -> zmq.Context[zmq.Socket[bytes]]:
    return zmq.Context()


def test_libzmq_publishes_to_us(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with context, context.socket(zmq.XPUB) as publisher, socket.socket(socket.AF_UNIX) as peer:
        publisher.bind(f"ipc://{tmp_path}/s")
        peer.connect(f"{tmp_path}/s")
        peer.settimeout(10)
        connection = zmtp.Connection(b"SUB")
        receive(connection, peer, 0)
        peer.sendall(zmtp.message([b"\1to"]))
        assert publisher.recv() == b"\1to"
        sent = [[b"topic", b""], [b"to", b"x" * 100_000, b"y"]]
        for message in [[b"other"], *sent]:
            publisher.send_multipart(message)
        assert receive(connection, peer, 2) == sent
        publisher.setsockopt(zmq.LINGER, 0)


def test_libzmq_subscribes_to_us(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with (
        context,
        context.socket(zmq.SUB) as subscriber,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{tmp_path}/s")
        listener.listen(1)
        listener.settimeout(10)
        subscriber.setsockopt(zmq.HEARTBEAT_IVL, 100)
        subscriber.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
        subscriber.connect(f"ipc://{tmp_path}/s")
        subscriber.subscribe(b"a")
        peer, _ = listener.accept()
        with peer:
            connection = zmtp.Connection(b"PUB")
            assert receive(connection, peer, 1) == [[b"\1a"]]
            sent = [b"a", b"x" * 300, b""]
            peer.sendall(zmtp.message(sent))
            assert subscriber.recv_multipart() == sent
            subscriber.unsubscribe(b"a")
            assert receive(connection, peer, 1) == [[b"\0a"]]


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64),
        zmtp.GREETING[:10] + b"\1\2",  # libzmq 3, which would wait for us to say more
        zmtp.GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
    ],
)
def test_who_speaks_something_else_is_refused(greeting: bytes) -> None:
    with pytest.raises(zmtp.ZmtpError):
        list(zmtp.Connection(b"SUB").feed(greeting))
