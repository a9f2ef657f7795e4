"""tests/progress.sh: long commands of the Makefile show that they go on."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_name("progress.sh")


def shown_on_a_terminal(*command: str) -> tuple[str, int]:
    ours, its = pty.openpty()
    with subprocess.Popen(
        ["sh", SCRIPT, "Installing", *command], stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the terminal is closed
                break
            shown += piece
    os.close(ours)
    return shown.decode(), process.returncode


def test_a_terminal_shows_the_seconds_and_the_last_line() -> None:
    shown, code = shown_on_a_terminal("sh", "-c", "echo one; echo two; sleep 1.3")
    assert code == 0
    assert "Installing: 1 s  two" in shown
    assert shown.endswith("\r\x1b[K")  # nothing is left of it


def test_a_failure_shows_all_that_was_printed() -> None:
    command = ["sh", SCRIPT, "Installing", "sh", "-c", "echo one; echo two >&2; exit 3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "Installing\none\ntwo\n")
