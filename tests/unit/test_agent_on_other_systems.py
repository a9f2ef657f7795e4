"""A host that is no Linux is refused at once, in words."""

from __future__ import annotations

import ast
import io
import os

import pytest

from remote_provisioners.agent.bootstrap import find_or_start


def test_a_host_without_proc(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = os.path.exists
    monkeypatch.setattr(
        os.path, "exists", lambda path: not str(path).startswith("/proc") and there(path)
    )
    find_or_start.main(io.BytesIO())
    printed = capsys.readouterr().out
    assert printed.startswith(find_or_start.MARKER)
    answer = ast.literal_eval(printed[len(find_or_start.MARKER) :])
    assert "kernels can be started on Linux only" in answer["error"]
