"""An agent is killed while cells run: each cell ends, with its reply or with a notice."""

from __future__ import annotations

from typing import Any

import pytest

from ..conftest import InstallSpec, Session, Start, be_client
from ..rig import Rig
from .test_left_conversations import WAIT


def begin(session: Session, code: str) -> str:
    """Run a cell; returns when it has printed "on"."""
    request = str(session.client.execute(code))
    while session.client.get_iopub_msg(timeout=20)["content"].get("text") != "on\n":
        pass
    return request


def reply_to(session: Session, request: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = session.client.get_shell_msg(timeout=20)
        if message["parent_header"]["msg_id"] == request:
            return message


def output_of(session: Session, request: str) -> list[dict[str, Any]]:
    """The cell's messages, up to the one that ends it."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["content"].get("execution_state") != "idle":
        message = session.client.get_iopub_msg(timeout=20)
        found += [message] if message["parent_header"].get("msg_id") == request else []
    return found


def test_a_cell_that_ends_without_an_agent(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    name = install_spec(host.target)
    ends, runs, idle = start(name), start(name), start(name)
    lost = begin(ends, WAIT.format("go") + "kept = 6 * 7")
    queued = ends.client.execute("kept += 1")
    kept = begin(runs, WAIT.format("later") + "print('done')")
    host.run(["sh", "-c", "pkill -9 -f agent[.]pyz; touch /tmp/go"])

    for request in (lost, queued):
        reply = reply_to(ends, request)
        assert reply["msg_type"] == "execute_reply"
        assert reply["content"]["ename"] == "ReplyLost"
        *_, notice, _ = output_of(ends, request)
        assert "this cell's reply is lost.\nThe cell has ended" in notice["content"]["text"]
    assert ends.value("kept") == 43  # it has run
    assert idle.value("1") == 1
    host.run(["touch", "/tmp/later"])
    assert reply_to(runs, kept)["content"]["status"] == "ok"
    printed = [m["content"].get("text") for m in output_of(runs, kept)]
    assert [text for text in printed if text] == ["done\n"]
    assert runs.value("2") == 2
