"""The texts of starts that fail."""

from __future__ import annotations

import pytest

from remote_provisioners.kernels.failure import ended_early, exit_text, too_late
from remote_provisioners.kernels.lifecycle import Lifecycle


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "exit code -9 (SIGKILL)"),
        (-11, "exit code -11 (SIGSEGV)"),
        (-1000, "exit code -1000"),
    ],
)
def test_signals_have_names(code: int, text: str) -> None:
    assert exit_text(code) == text
    life = Lifecycle()
    life.launched()
    life.exited(code)
    assert f"the kernel ended at once with {text} and no output" in str(ended_early(life, "h"))


def test_a_start_that_waited_for_its_hook() -> None:
    lines = str(too_late(Lifecycle(), 30, "", "host1", "module load x")).splitlines()
    assert lines[0] == (
        "host host1: the host did not start the kernel within 30 s (launch_timeout)"
    )
    assert lines[1] == "The environment hook still runs: the next start uses its result."
    assert all(len(line) <= 90 for line in lines)
    without = too_late(Lifecycle(), 30, "", "host1").message
    assert without == (
        "the host did not start the kernel within 30 s (launch_timeout): the start was cancelled"
    )
