"""The template of a host's first kernel: the agent does not wait for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.agent.forking import first_template

from ..conftest import IPYKERNEL


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


ADOPTS = """
import os, signal, sys, time
from pathlib import Path
from remote_provisioners.agent.forking import first_template

found = first_template.load(sys.argv[1])
children = Path(f"/proc/self/task/{os.getpid()}/children")
deadline = time.monotonic() + 30
while len(children.read_text().split()) < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
print(len(children.read_text().split()))
for pid in children.read_text().split():
    os.kill(int(pid), signal.SIGKILL)
"""


def test_its_kernel_ahead_is_a_child_of_the_agent(tmp_path: Path) -> None:
    """Also if the template is ready before the agent, as on a busy host."""
    expected = {"argv": IPYKERNEL, "env": {}, "python": sys.executable}
    (tmp_path / first_template.EXPECTED).write_text(json.dumps(expected))
    program = [sys.executable, "-c", ADOPTS, os.fspath(tmp_path)]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=90)
    assert done.stdout == "2\n", done.stderr
