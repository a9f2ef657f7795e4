"""Where an agent may be, and whether one is there."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import socket
import threading
from pathlib import Path

import pytest

from remote_provisioners.agent.bootstrap import find_or_start, siblings


def test_a_stopped_agent_is_there(tmp_path: Path) -> None:
    """Nobody waits until it takes connections again, and nobody starts another one."""
    host, _ = find_or_start.host_identity()
    directory = tmp_path / f"other-{host}"
    directory.mkdir()
    (directory / "agent.pyz").touch()
    path = str(directory / "agent.sock")
    others = siblings.Siblings(str(tmp_path / f"own-{host}"))
    with contextlib.ExitStack() as stack:
        stopped = stack.enter_context(socket.socket(socket.AF_UNIX))
        stopped.bind(path)
        stopped.listen(0)
        code = 0
        while code != errno.EAGAIN:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            code = waiting.connect_ex(path)
        found: list[bool] = []
        asking = threading.Thread(target=lambda: found.append(find_or_start.answers(path)))
        asking.daemon = True
        asking.start()
        asking.join(5)
        assert found == [True]
        assert asyncio.run(others.answering()) == [str(directory)]
    assert not find_or_start.answers(path)
    assert asyncio.run(others.answering()) == []


def test_an_upload_that_is_cut_replaces_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed agent's kernels need its program, also without another connection."""
    host, _ = find_or_start.host_identity()
    directory = tmp_path / f"{'0' * 12}-{host}"
    directory.mkdir(0o700)
    (directory / "agent.pyz").write_bytes(b"whole")
    monkeypatch.setattr(find_or_start, "bases", lambda: [str(tmp_path)])
    find_or_start.main(io.BytesIO(find_or_start.request("0" * 64, 1000) + b"half"))
    assert "the connection was cut" in capsys.readouterr().out
    assert (directory / "agent.pyz").read_bytes() == b"whole"


def test_a_place_where_tmp_is_closed_and_the_home_path_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket below such a home directory would have too long a path."""
    home = tmp_path / "a-long-name-of-a-department"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    name = f"remote-provisioners-{os.getuid()}"
    assert find_or_start.bases()[-1] == f"/dev/shm/{name}"
    assert not any(base.startswith(str(home)) for base in find_or_start.bases())
