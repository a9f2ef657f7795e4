"""The oldest versions of other packages that pyproject.toml allows, and an old jupyter_server."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import Applications, eventually

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def oldest(tmp_path: Path) -> str:
    """An interpreter that has these versions."""
    uv, directory = Path(sys.executable).with_name("uv"), tmp_path / "oldest"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, directory], check=True)
    python = str(directory / "bin/python")
    install = [uv, "pip", "install", "-q", "--python", python, "--resolution", "lowest-direct"]
    packages = ["-e", f"{PROJECT}[demo,kubernetes,ports]", "jupyter_server>=2.0"]
    subprocess.run([*install, *packages], check=True)
    return python


@pytest.mark.long
def test_start_kill_restore(
    rig: Rig, home: Path, install_spec: InstallSpec, applications: Applications, oldest: str
) -> None:
    install_spec(rig.hosts[0].target)
    first = applications.server("server", python=oldest)
    asked = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "remote"}}
    status, session = first.ask("POST", "/api/sessions", asked)
    assert status == 201, session
    kernel_id = session["kernel"]["id"]
    eventually(lambda: first.ask("POST", f"/api/kernels/{kernel_id}/restart")[0] == 200, 60)
    assert first.run(kernel_id, "x = 6 * 7; print(x)") == "42\n"
    first.process.send_signal(signal.SIGKILL)
    first.wait()

    second = applications.server("server", python=oldest)
    assert [found["id"] for found in second.ask("GET", "/api/sessions")[1]] == [session["id"]]
    assert second.run(kernel_id, "print(x)") == "42\n"
    assert second.ask("DELETE", f"/api/kernels/{kernel_id}")[0] == 204
