"""Slurm in the conformance suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from ..conftest import Session, be_client
from ..engines.rig import EngineRig, Limit
from ..rig import open_rig
from .cluster import Slurm, left_on, unavailable


class SlurmRig(EngineRig):
    """A cluster whose submit host is this machine."""

    provisioner = "slurm-provisioner"
    down_text = r"Slurm's controller does not answer"
    full_text = r"job \d+ is waiting (for resources in|behind other jobs in) partition main"
    short_wait: ClassVar = {"slurm_queue_timeout": 5.0}
    limit = Limit(
        r"time limit of 00:01:00 was reached", {"slurm_partition": "short"}, seconds=150.0
    )

    @staticmethod
    def unavailable() -> str:
        return unavailable()

    def open(self) -> None:
        self._rig = open_rig(3)
        self._rig.__enter__()
        self.slurm = Slurm(self._rig.hosts)
        self.slurm.open()

    def close(self) -> None:
        self.slurm.close()
        self._rig.__exit__(None, None, None)

    def options(self) -> dict[str, Any]:
        return {"python": sys.executable}

    def be_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        be_client(self._rig, monkeypatch)
        for name, value in self.slurm.environ.items():
            monkeypatch.setenv(name, value)

    def jobs(self) -> list[str]:
        return sorted(self.slurm.jobs())

    def run(self, session: Session, argv: Sequence[str]) -> str:
        place = session.provisioner.place
        host = next(host for host in self.slurm.nodes if host.name == place)
        return host.run(argv, user="root")

    def settled(self) -> list[str]:
        return left_on(self.slurm.hosts)

    def down(self) -> AbstractContextManager[None]:
        return self.slurm.lost()

    def full(self) -> AbstractContextManager[None]:
        return self.slurm.busy()
