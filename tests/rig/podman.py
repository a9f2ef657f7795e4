"""Real Podman, with runc and its own storage, in the conformance suite of the engines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ..conftest import Session
from ..engines.rig import EngineRig, Limit
from .containers import SHARED, unmount_below
from .docker import image

_NO_QUEUE, _NO_DAEMON = "Podman has no queue", "Podman has no daemon"
#: crun does not start where version 1 and 2 of control groups are mixed. A machine may forbid the
#: number of files that Podman allows by default.
_CONFIGURATION = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
cgroupns = "host"
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
"""


class PodmanRig(EngineRig):
    """Podman as root."""

    provisioner = "docker-provisioner"
    column = "docker-provisioner, Podman"
    notes: ClassVar = {
        "no room": _NO_QUEUE,
        "cancelled while it waits": _NO_QUEUE,
        "kill -9 of the server while a start waits": _NO_QUEUE,
        "engine down at start": _NO_DAEMON,
        "engine lost while running": _NO_DAEMON,
    }
    limit = Limit(r"memory", {"memory": "300m"}, "x = bytearray(1 << 30)")

    @staticmethod
    def unavailable() -> str:
        able = os.geteuid() == 0 and shutil.which("podman") and shutil.which("runc")
        return "" if able else "needs root, podman and runc"

    def open(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="podman-", dir="/var/tmp"))
        storage = f'driver = "vfs"\ngraphroot = "{self._directory}/root"\n'
        storage = f'[storage]\n{storage}runroot = "{self._directory}/run"\n'
        files = {"CONTAINERS_CONF": _CONFIGURATION, "CONTAINERS_STORAGE_CONF": storage}
        self._environ = {}
        for name, text in files.items():
            path = self._directory / name.lower()
            path.write_text(text)
            self._environ[name] = str(path)
        archive = self._directory / "image.tar"
        archive.write_bytes(image())
        self._podman("import", str(archive), "box")

    def close(self) -> None:
        unmount_below(self._directory)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _podman(self, *words: str) -> str:
        done = subprocess.run(
            ["podman", *words],
            env={**os.environ, **self._environ},
            capture_output=True,
            check=True,
            timeout=60,
        )
        return done.stdout.decode().strip()

    def options(self) -> dict[str, Any]:
        volumes = [f"{path}:{path}:ro" for path in SHARED]
        given = {"image": "box", "pull": "never", "volumes": volumes, "python": sys.executable}
        return {**given, "docker_program": "podman"}

    def be_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self._environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(self._directory)  # conmon writes a file "oom" there

    def jobs(self) -> list[str]:
        return sorted(self._podman("ps", "-a", "--format", "{{.Names}}").split())

    def run(self, session: Session, argv: Sequence[str]) -> str:
        # in some images, `kill` is only a command of the shell
        return self._podman("exec", "--user=root", session.host, "sh", "-c", '"$@"', "sh", *argv)

    def down(self) -> AbstractContextManager[None]:
        raise NotImplementedError(_NO_DAEMON)

    def full(self) -> AbstractContextManager[None]:
        raise NotImplementedError(_NO_QUEUE)
