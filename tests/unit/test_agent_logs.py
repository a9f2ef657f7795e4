"""Files that kernels and agents print to: bounded, however long they run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from remote_provisioners.agent import log as agent_log
from remote_provisioners.agent.processes import output_file as module

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
    printed = [f"line {number}" for number in range(3000)]
    dropped = len("".join(f"{line}\n" for line in printed[: 2 - len(said)]))
    assert said[0] == f"[{dropped} bytes of earlier output dropped]"
    assert said[1:] == [*printed[2 - len(said) :], "and on"]
    assert path.stat().st_size < module.LOG_LIMIT
    module.trim(str(path))  # short enough
    assert path.read_text().splitlines() == said
    module.trim(str(tmp_path / "none"))


def test_a_reader_goes_on_where_it_was_though_the_file_is_trimmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 10_000)
    path, read, position = tmp_path / "log", "", 0
    lines = [f"line {number} {'é' * (number % 7)}\n" for number in range(3000)]
    for number, line in enumerate(lines):
        with path.open("ab") as log:
            log.write(line.encode())
        if number % 100 == 0:
            text, position = module.read_on(str(path), position, ended=False)
            read += text
        if number % 250 == 0:
            module.trim(str(path))
    text, position = module.read_on(str(path), position)
    assert read + text == "".join(lines)
    assert position == len("".join(lines).encode())
    assert module.read_on(str(path), position) == ("", position)
    # A reader of text that is gone is told so, and reads what there is; so is one of another file.
    module.trim(str(path))
    for after in (0, 5, position + 1):
        text, end = module.read_on(str(path), after)
        assert text == path.read_text()
        assert "bytes of earlier output dropped" in text.splitlines()[0]
        assert end == position
    assert module.read_on(str(tmp_path / "none"), 7) == ("", 7)


def test_half_a_character_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("né".encode()[:-1])
    assert module.read_on(str(path), ended=False) == ("n", 1)
    path.write_bytes("né".encode())
    assert module.read_on(str(path), 1, ended=False) == ("é", 3)
    path.write_bytes(b"n\xc3")
    assert module.read_on(str(path), 1) == ("\N{REPLACEMENT CHARACTER}", 2)


def test_a_line_that_cannot_be_written_is_not_the_last(capfd: pytest.CaptureFixture[str]) -> None:
    agent_log.write_in_thread()
    agent_log.say("/home/\udce4")  # a name in Latin-1
    agent_log.say("next")
    agent_log.finish()
    assert capfd.readouterr().out.endswith("next\n")
