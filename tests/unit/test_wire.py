import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_provisioners.protocol.wire import MAX_FRAME, Decoder, WireError, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
messages = st.lists(st.dictionaries(st.text(), values), max_size=5)


@given(messages, st.lists(st.integers(1, 9), min_size=1))
def test_messages_survive_any_cut(sent: list, cuts: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    decoder, received, position, turn = Decoder(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        received += decoder.feed(stream[position : position + step])
        position, turn = position + step, turn + 1
    assert received == sent


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">I", MAX_FRAME + 1),
        b"SSH-2.0-OpenSSH",
        struct.pack(">I", 3) + b"{x}",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 1) + b"\xff",
    ],
)
def test_refuses_what_is_no_frame(frame: bytes) -> None:
    with pytest.raises(WireError):
        list(Decoder().feed(frame))


def test_undecodable_bytes_pass() -> None:
    message = {"path": b"caf\xe9".decode("utf-8", "surrogateescape")}
    assert list(Decoder().feed(encode(message))) == [message]
    assert json.loads(encode(message)[4:]) == message
