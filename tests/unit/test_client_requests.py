"""What a client sends while no agent listens comes first on its next connection."""

from __future__ import annotations

import json

import pytest

from remote_provisioners.kernels.client_requests import ClientRequests, CutOff
from remote_provisioners.protocol import zmtp
from remote_provisioners.protocol.outgoing import Outgoing

IDENTITY = b"session-1"
HANDSHAKE = zmtp.GREETING + zmtp.command(
    b"READY", b"\x08Identity" + len(IDENTITY).to_bytes(4, "big") + IDENTITY
)


def request(name: str, size: int = 0) -> bytes:
    header = json.dumps({"msg_id": name, "msg_type": "execute_request"}).encode()
    return zmtp.message([b"<IDS|MSG>", b"signature", header, b"{}", b"{}", b"x" * size])


def ids(headers: list[str]) -> list[str]:
    return [json.loads(header)["msg_id"] for header in headers]


@pytest.mark.parametrize(
    ("sent", "unsent", "unanswered"),
    [
        (0, ["b", "c"], ["a"]),  # the agent got only the first
        (1, ["c"], ["a", "b"]),  # it got a byte of the second: nobody knows whether it ran
        (len(request("b")), ["c"], ["a", "b"]),
        (len(request("b")) + 5, [], ["a", "b", "c"]),
    ],
)
@pytest.mark.parametrize("size", [0, 200_000])
@pytest.mark.parametrize("step", [7, 65536, 1 << 20])
def test_only_whole_messages_of_which_no_agent_got_anything_are_sent_again(
    sent: int, unsent: list[str], unanswered: list[str], size: int, step: int
) -> None:
    earlier, outgoing = CutOff(), Outgoing()
    requests = ClientRequests(earlier)
    first = HANDSHAKE + request("a")
    last = request("b") + request("c", size)
    incomplete = request("d")[:-1]
    data = first + last + incomplete
    for begin in range(0, len(data), step):
        outgoing.push(requests.sent(data[begin : begin + step]))
    while outgoing.sent_end < len(first) + sent:
        outgoing.take(len(first) + sent - outgoing.sent_end)
    requests.cut_off(outgoing)

    assert ids(earlier.unanswered[IDENTITY.hex()]) == unanswered
    following = ClientRequests(earlier)
    assert following.sent(HANDSHAKE[:70]) == HANDSHAKE[:70]
    again = b"".join(request(name, size if name == "c" else 0) for name in unsent)
    assert following.sent(HANDSHAKE[70:] + request("e")) == HANDSHAKE[70:] + again + request("e")
    assert ids(following.headers) == [*unanswered, *unsent, "e"]
    assert earlier == CutOff()
