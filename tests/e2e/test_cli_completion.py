"""What shells complete after ``jupyter remote``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60
COMMAND = [sys.executable, "-m", "remote_provisioners.cli.app", "completion"]

BASH = """
source "$1"
COMP_WORDS=($2 "$3")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$(complete -p "${COMP_WORDS[0]}" | sed 's/.* -F \\([^ ]*\\).*/\\1/')"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "$argv[2] $argv[3]" | string split -f1 \\t'
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -D; source '$1
zpty -w shell 'LISTMAX=0; say() { print SAI""D }; zle -N say; bindkey "^Y" say'
zpty -w shell 'bindkey "^I" list-choices; stty rows 200 cols 200; print READ""Y'
zpty -r shell out '*READY*'
zpty -w -n shell "$2 $3"$'\t'$'\x19'
zpty -r shell shown '*SAID*'
print -r -- $shown
"""
RUN = {
    "bash": ["bash", "--norc", "-c", BASH, "bash"],
    "zsh": ["zsh", "-f", "-c", ZSH, "zsh"],
    "fish": ["fish", "--no-config", "-c", FISH],
}


@pytest.fixture(scope="module", params=list(RUN))
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")
    return str(request.param)


@pytest.fixture(scope="module")
def script(shell: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / shell
    path.write_bytes(subprocess.run([*COMMAND, shell], stdout=subprocess.PIPE, check=True).stdout)
    return path


@pytest.fixture
def completed(shell: str, script: Path, tmp_path: Path):
    def complete(before: str, start: str = "") -> set[str]:
        done = subprocess.run(
            [*RUN[shell], str(script), before, start],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"},
        )
        assert done.stderr == ""
        return {word.rstrip("=") for word in done.stdout.split()}

    return complete


@pytest.mark.parametrize("command", ["jupyter-remote", "jupyter remote"])
def test_commands_and_options(completed, command: str) -> None:
    assert {"hosts", "kernels", "spec", "completion"} <= completed(command)
    assert "install" not in completed(command)
    assert {"install", "list", "remove"} <= completed(f"{command} spec")
    assert "--watch" in completed(f"{command} hosts", "--w")
    assert "--json" not in completed(f"{command} hosts", "--w")
    assert "--follow" in completed(f"{command} logs", "--f")
    found = completed(f"{command} spec install --user", "spark_R_y")
    assert {"spark_R_yarn_client", "spark_R_yarn_cluster"} <= found


def test_the_first_word_of_jupyter(completed) -> None:
    assert "remote" in completed("jupyter", "rem")


def test_a_shell_that_is_not_known() -> None:
    done = subprocess.run([*COMMAND, "bsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "jupyter remote completion: unknown shell 'bsh'; did you mean 'bash'? "
        "(known: bash, zsh, fish)\n"
    )
