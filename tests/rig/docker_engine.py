"""Docker in the conformance suite."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from ..conftest import Session
from ..engines.rig import EngineRig, Limit
from .containers import SHARED
from .docker import Docker, open_docker

_NO_QUEUE = "Docker has no queue"


class DockerRig(EngineRig):
    """A daemon of our own."""

    provisioner = "docker-provisioner"
    notes: ClassVar = {
        "no room": _NO_QUEUE,
        "cancelled while it waits": _NO_QUEUE,
        "kill -9 of the server while a start waits": _NO_QUEUE,
        "engine lost while running": "a killed daemon ends its containers",
    }
    down_text = r"docker does not reach its daemon"
    full_text = r"never"
    limit = Limit(r"memory", {"memory": "300m"}, "x = bytearray(1 << 30)")
    docker: Docker

    @staticmethod
    def unavailable() -> str:
        able = os.geteuid() == 0 and shutil.which("dockerd")
        return "" if able else "needs root, and Docker's daemon (docker.io)"

    def open(self) -> None:
        self._stack = contextlib.ExitStack()
        self.docker = self._stack.enter_context(open_docker())

    def close(self) -> None:
        self._stack.close()

    def options(self) -> dict[str, Any]:
        volumes = [f"{path}:{path}:ro" for path in SHARED]
        return {"image": "box", "pull": "never", "volumes": volumes, "python": sys.executable}

    def be_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", self.docker.socket)

    def jobs(self) -> list[str]:
        return sorted(self.docker.run("ps", "-a", "--format", "{{.Names}}").split())

    def run(self, session: Session, argv: Sequence[str]) -> str:
        # `kill` is a shell's own in some images
        words = ["sh", "-c", '"$@"', "sh", *argv]
        return self.docker.run("exec", "--user=root", session.host, *words)

    def down(self) -> AbstractContextManager[None]:
        return self.docker.lost()

    def full(self) -> AbstractContextManager[None]:
        raise NotImplementedError(_NO_QUEUE)
