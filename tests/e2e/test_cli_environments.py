"""``jupyter remote scan``, ``add`` and ``refresh`` with the environments of real hosts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..rig import Host, Rig
from .made_environments import KERNEL, make_conda, make_kernelspec, make_venv


class CommandLine:
    """``jupyter remote`` of a user with an empty Jupyter."""

    def __init__(self, directory: Path) -> None:
        self.kernels = directory / "data" / "kernels"
        self.environ = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(directory / "config"),
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
            "IPYTHONDIR": str(directory / "ipython"),
        }

    def run(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "remote_provisioners.cli.app", *words],
            env=self.environ,
            input=answer,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def done(self, *words: str, **kwargs: Any) -> str:
        """What it prints, once it has done all."""
        done = self.run(*words, **kwargs)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def refused(self, *words: str, status: int = 1) -> str:
        done = self.run(*words)
        assert done.returncode == status, done
        return done.stderr

    def scanned(self, *words: str) -> dict[str, dict[str, Any]]:
        """The environments of one host that are below its home directory, by name."""
        (host,) = json.loads(self.done("scan", *words, "--json"))["hosts"]
        assert host["error"] == ""
        assert host["seconds"] < 2
        return {e["name"]: e for e in host["environments"]}


@pytest.fixture
def command(tmp_path: Path, home: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def host(rig: Rig) -> Any:
    """A host whose home directory is empty again after the test."""
    host = rig.hosts[0]
    before = set(os.listdir(host.home))
    yield host
    for name in set(os.listdir(host.home)) - before:
        path = host.home / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def test_scan_lists_what_can_run_kernels(host: Host, command: CommandLine) -> None:
    make_conda(host.home / "miniforge3" / "envs" / "torch")
    make_venv(host.home / "work" / ".venv", kernel=False)
    data = host.home / ".local" / "share" / "jupyter"
    make_kernelspec(data, "shell", ["bash", "{connection_file}"], display_name="Bash")
    found = command.scanned(host.target)
    assert (found["torch"]["package_version"], found["torch"]["usable"]) == (KERNEL, True)
    python = host.home / "work" / ".venv" / "bin" / "python"
    assert found["work"]["install"].startswith(f"{python} -m ensurepip && {python} -m pip install")
    assert found["shell"]["title"] == "Bash"
    text = command.done("scan", host.target).splitlines()
    assert text[0].startswith(f"{host.target}: ")
    assert any(line.split()[:1] == ["torch"] and f"ipykernel {KERNEL}" in line for line in text)
    assert text[-1] == f"To use them here: jupyter remote add {host.target}"


def test_scan_finds_what_debian_has(host: Host, command: CommandLine) -> None:
    if not Path("/usr/lib/R/site-library/IRkernel").exists():
        pytest.skip("IRkernel is not installed (on Debian: r-cran-irkernel)")
    found = command.scanned(host.target)
    assert found["R"]["usable"]
    assert found["R"]["package"] == "IRkernel"


def test_scan_says_which_host_does_not_answer(rig: Rig, command: CommandLine) -> None:
    done = command.run("scan", rig.hosts[0].target, "nosuchhost.invalid", "--json")
    assert done.returncode == 1
    one, two = json.loads(done.stdout)["hosts"]
    assert one["error"] == ""
    assert two["error"]
    assert "unknown option --frobnicate" in command.refused("scan", "--frobnicate", status=2)
