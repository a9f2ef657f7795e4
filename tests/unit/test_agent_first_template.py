"""The template of a host's first kernel: the agent does not wait for it."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.agent.forking import first_template


def test_a_template_that_comes_late_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template's files hang for a while. The agent goes on without the template."""
    ours, its = socket.socketpair()

    def slowly(directory: str) -> dict[str, Any]:
        time.sleep(0.2)
        return {"descriptor": ours.detach()}

    monkeypatch.setattr(first_template, "_SECONDS", 0.05)
    monkeypatch.setattr(first_template, "_handed", slowly)
    assert first_template.load(str(tmp_path)) is None
    its.settimeout(5)
    assert its.recv(1) == b""
    its.close()


def test_a_template_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_template, "_handed", lambda directory: {"descriptor": -1})
    assert first_template.load(str(tmp_path)) == {"descriptor": -1}


def test_a_user_who_may_start_no_more_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The agent starts without a template."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (tmp_path / first_template.EXPECTED).write_text("{}")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert first_template.load(os.fspath(tmp_path)) is None
    assert capfd.readouterr().err == "no first template: can't start new thread\n"
