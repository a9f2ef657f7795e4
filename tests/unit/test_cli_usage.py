"""Command lines that cannot be understood: status 2 and a line that says why. No host is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from remote_provisioners.cli.command import Command
from remote_provisioners.cli.doctor.app import DoctorApp
from remote_provisioners.cli.hosts.app import HostsApp
from remote_provisioners.cli.kernels.attach import AttachApp
from remote_provisioners.cli.kernels.logs import LogsApp
from remote_provisioners.cli.kernels.stop import StopApp

Misused = Callable[[type[Command], list[str]], str]


@pytest.fixture
def misused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Misused:
    """What a command says of these words."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_NO_CONFIG", "1")

    def run(app: type[Command], words: list[str]) -> str:
        with pytest.raises(SystemExit) as end:
            app.launch_instance(words)
        app.clear_instance()
        out, error = capsys.readouterr()
        (line,) = error.splitlines()
        assert (end.value.code, out) == (2, "")
        return str(line)

    return run


@pytest.mark.parametrize(
    ("app", "word"),
    [
        *((HostsApp, w) for w in ("--watch=soon", "--watch=0", "--timeout=1", "-x")),
        *((DoctorApp, w) for w in ("--timeout=soon", "--timeout=0", "--hosts=a", "--what", "-x")),
    ],
)
def test_an_option_that_is_unknown_or_has_no_such_value(
    misused: Misused, app: type[Command], word: str
) -> None:
    assert word.partition("=")[0] in misused(app, ["localhost", word])


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (StopApp, []),
        (StopApp, ["x", "--all-unowned"]),
        (LogsApp, []),
        (LogsApp, ["a", "b"]),
        (AttachApp, []),
    ],
)
def test_a_wrong_number_of_kernels(misused: Misused, app: type[Command], words: list[str]) -> None:
    assert misused(app, words).startswith(f"{app.name.replace('-', ' ')}: ")
