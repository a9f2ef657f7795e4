from pathlib import Path

import pytest

from remote_provisioners.agent.kernels.environment import (
    CommandError,
    expand,
    kernel_environment,
    resolve_command,
    session_free,
    substitute,
    travelled,
    working_directory,
)

VALUES = {"HOME": "/home/al", "EMPTY": "", "ODD": "$(id) ${HOME} `x`"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${HOME}/x", "/home/al/x"),
        ("$HOME/x", "/home/al/x"),
        ("${NONE:-d e}", "d e"),
        ("${EMPTY:-d}", "d"),
        ("${HOME:-d}", "/home/al"),
        ("${NONE}", "${NONE}"),
        ("$NONE", "$NONE"),
        ("$$HOME", "$HOME"),
        ("${ODD}", "$(id) ${HOME} `x`"),
        ("$(touch x)", "$(touch x)"),
        ("100 $", "100 $"),
        ("${HOME", "${HOME"),
        ("${A-B}", "${A-B}"),
    ],
)
def test_expand_once_and_nothing_else(text: str, expanded: str) -> None:
    assert expand(text, VALUES) == expanded


def test_request_wins_and_stays_literal() -> None:
    environ = kernel_environment(
        {"HOME": "/h", "PATH": "/bin"},
        {"PATH": "/opt:$PATH", "NAME": "--name ${KERNEL_ID:-none}", "KERNEL_X": "spec"},
        {"KERNEL_ID": "$HOME", "KERNEL_X": "request"},
    )
    assert environ == {
        "HOME": "/h",
        "PATH": "/opt:/bin",
        "NAME": "--name $HOME",
        "KERNEL_ID": "$HOME",
        "KERNEL_X": "request",
    }


def test_session_variables_stay_behind() -> None:
    environ = {"SSH_AUTH_SOCK": "x", "SSH_CLIENT": "x", "XDG_SESSION_ID": "1", "SSHX": "y"}
    assert session_free(environ) == {"SSHX": "y"}


def test_substitute_is_one_pass() -> None:
    values = {"a": "{b}", "b": "B"}
    assert substitute("{a} {b}{c} x{a}y", values) == "{b} B{c} x{b}y"


def test_python_is_the_hosts_interpreter(tmp_path: Path) -> None:
    for name in ("python3", "special"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": str(tmp_path)}
    special = str(tmp_path / "special")
    for program in ("python", "python3", "python3.11"):
        assert resolve_command([program, "-m"], special, environ) == [special, "-m"]
    assert resolve_command(["python"], "special", environ) == [special]
    assert resolve_command(["python"], "", environ) == [str(tmp_path / "python3")]
    assert resolve_command(["special"], "/other", environ) == [special]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("no-such", "is not on PATH"),
        ("/no/such", "does not exist"),
        ("/etc/passwd", "is not executable"),
        ("$(id)", "is not on PATH"),
    ],
)
def test_unusable_program_is_named(program: str, says: str) -> None:
    with pytest.raises(CommandError, match=says) as refused:
        resolve_command([program], "", {"PATH": "/usr/bin"})
    assert repr(program) in str(refused.value)


def test_first_directory_that_exists(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert working_directory(["/no/such", "/usr"], home) == "/usr"
    assert working_directory(["/no/such", "relative", ""], home) == home
    assert working_directory(["/etc/passwd"], "/no/home") == "/"


def test_a_path_of_the_servers_kernelspec_is_that_of_its_copy(tmp_path: Path) -> None:
    here = tmp_path / "exists"
    here.touch()
    origin, copy = str(tmp_path), "/copy"
    assert travelled(f"{origin}/bin/run.sh", origin, copy) == "/copy/bin/run.sh"
    assert travelled(str(here), origin, copy) == str(here)
    assert travelled(f"{origin}-2/run.sh", origin, copy) == f"{origin}-2/run.sh"
    assert travelled("/bin/run.sh", "", "") == "/bin/run.sh"
