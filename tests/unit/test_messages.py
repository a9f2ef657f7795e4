"""What travels: read whatever comes, of whichever version, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from remote_provisioners.protocol import version
from remote_provisioners.protocol.agent_events import EVENTS, Exited, event_message, read_event
from remote_provisioners.protocol.agent_requests import REQUESTS, Hello, Start
from remote_provisioners.protocol.answers import KernelDescription, LoadReport, Welcome
from remote_provisioners.protocol.structure import FieldError
from remote_provisioners.protocol.version import VersionError, agree
from remote_provisioners.protocol.wire import Decoder, encode


def travel(message: dict[str, Any]) -> dict[str, Any]:
    (arrived,) = Decoder().feed(encode(message))
    return arrived


def test_a_start_arrives_as_it_was_sent() -> None:
    sent = Start(kernel_id="k", argv=["a", "{b}"], connection={"transport": "ipc"}, lease=3.5)
    read = Start.read(travel(sent.fields()))
    assert read.fields() == sent.fields()
    assert read.output.disk == sent.output.disk


def test_version_0_has_no_version() -> None:
    assert Hello.read({"owner": "a"}).protocol == 0
    assert Welcome.read({"pid": 3}).protocol == 0


def test_what_is_not_known_is_passed_over() -> None:
    assert Hello.read({"owner": "a", "colour": "red"}).owner == "a"
    assert read_event({"event": "of tomorrow", "kernel_id": "k"}) is None


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({}, "Hello has no owner"),
        ({"owner": 3}, "owner is 'int'"),
        ({"owner": "a", "protocol": True}, "protocol is 'bool'"),
        ([], "is no object"),
    ],
)
def test_what_cannot_be_read_says_why(message: Any, said: str) -> None:
    with pytest.raises(FieldError, match=said):
        Hello.read(message)


def test_one_kernel_that_cannot_be_read_does_not_take_the_others_with_it() -> None:
    kernels = [{"kernel_id": "a"}, {"pid": 3}, "b", {"kernel_id": "c", "pid": None}]
    read = Welcome.read({"kernels": kernels, "load": {"cores": 4}})
    assert [kernel.kernel_id for kernel in read.kernels] == ["a", "c"]
    assert read.load.cores == 4


def test_what_has_defaults_has_its_own() -> None:
    one, two = KernelDescription(kernel_id="a"), KernelDescription(kernel_id="b")
    assert isinstance(one.connection, dict)
    one.connection["key"] = "secret"
    assert two.connection == {}
    assert "secret" not in repr(one)


def test_each_request_and_event_has_a_name_of_its_own() -> None:
    assert {"hello", "start", "leave", "status"} <= REQUESTS.keys()
    for event in EVENTS.values():
        made = event(kernel_id="k") if "kernel_id" in event._fields else event()
        assert type(read_event(travel(event_message(made)))) is event
    assert Exited(kernel_id="k", exit_code=3, tail="said", ended_by="it").reason == "it\nsaid"
    assert LoadReport().yours == 0


def test_the_newer_side_adapts_or_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agree(0, "the agent") == 0
    assert agree(version.VERSION + 5, "the agent") == version.VERSION
    monkeypatch.setattr(version, "OLDEST", 1)
    with pytest.raises(VersionError, match=r"the agent speaks version 0 .* too old: 1 is"):
        agree(0, "the agent")
