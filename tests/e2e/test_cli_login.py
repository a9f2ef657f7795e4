"""``jupyter remote login`` for hosts that nobody logs in to. Logins: `test_ways_in.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("localhost", "localhost is reached without SSH: there is no login"),
        ("box", "box is reached by `docker exec -i box`: there is no login"),
    ],
)
def test_there_is_no_login(host: str, said: str, tmp_path: Path) -> None:
    connect = '["docker", "exec", "-i", "{host}"]' if host == "box" else ""
    done = subprocess.run(
        [sys.executable, "-m", "remote_provisioners.cli.app", "login", host],
        env={**os.environ, "HOME": str(tmp_path), "RP_CONNECT": connect},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"jupyter remote login: {said}\n")
