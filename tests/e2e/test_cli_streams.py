"""Commands whose standard streams are closed or full, or that may open few files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "remote_provisioners.cli.app"]
FULL = "cannot write the output: No space left on device"
NO_MORE = "Too many open files"


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))


@pytest.mark.parametrize(
    ("words", "redirection", "prepare", "expected"),
    [
        ("--help", "> /dev/full", None, (1, FULL)),
        ("spec list", "> /dev/full", None, (1, FULL)),
        ("add localhost", "<&-", None, (2, "nobody answers: name environments, or use --all")),
        ("spec list", ">&-", None, (0, "")),
        ("spec remove nosuch", ">&- 2>&-", None, (1, "")),
        ("stop abc", "", few_files, (1, NO_MORE)),
        ("cp a localhost:b", "", few_files, (1, NO_MORE)),
    ],
)
def test_an_error_of_a_stream_is_one_clear_line(
    words: str,
    redirection: str,
    prepare: Callable[[], None] | None,
    expected: tuple[int, str],
    tmp_path: Path,
) -> None:
    environ = {**os.environ, "HOME": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path)}
    argv = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *words.split()]
    done = subprocess.run(
        argv,
        env=environ,
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    status, text = expected
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status
    lines = done.stderr.splitlines()
    assert text in lines[-1] if text else not lines
    assert len(lines) <= 2 or words.startswith("add")
    assert not text or "jupyter remote" in done.stderr
