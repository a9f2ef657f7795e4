"""Files that kernels and agents print to: bounded, however long they run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from remote_provisioners.agent import log as agent_log
from remote_provisioners.agent.processes import kernel_process as module

from ..conftest import eventually


def test_a_file_that_somebody_appends_to_is_kept_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 10_000)
    path = tmp_path / "log"
    with path.open("ab") as log:
        printing = subprocess.Popen(
            ["sh", "-c", "while read line; do echo $line; done"], stdin=subprocess.PIPE, stdout=log
        )
    assert printing.stdin is not None
    for number in range(3000):
        printing.stdin.write(b"line %d\n" % number)
    printing.stdin.flush()
    eventually(lambda: "line 2999" in path.read_text())
    module.trim(str(path))
    printing.stdin.write(b"and on\n")
    printing.communicate()
    said = path.read_text().splitlines()
    assert said[0] == "[earlier output dropped]"
    assert said[-2:] == ["line 2999", "and on"]
    assert len(said) == module.TAIL_LINES + 2
    module.trim(str(path))  # short enough
    assert path.read_text().splitlines() == said
    module.trim(str(tmp_path / "none"))


def test_a_line_that_cannot_be_written_is_not_the_last(capfd: pytest.CaptureFixture[str]) -> None:
    agent_log.write_in_thread()
    agent_log.say("/home/\udce4")  # a name in Latin-1
    agent_log.say("next")
    agent_log.finish()
    assert capfd.readouterr().out.endswith("next\n")
