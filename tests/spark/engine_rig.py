"""YARN in the conformance suite of the engines."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Session, be_client
from ..engines.rig import EngineRig, Limit
from ..rig import open_rig
from . import cluster, kernelspec
from .yarn import Yarn
from .yarn import unavailable as yarn_unavailable

_SAMPLE = "spark_python_yarn_cluster"


class YarnRig(EngineRig):
    """A cluster to which this machine submits, in cluster mode."""

    provisioner = "yarn-provisioner"
    notes: ClassVar = {
        "engine lost while running": "a ResourceManager without recovery ends its containers",
    }
    remarks: ClassVar = {
        "restart in place": "in another container",
        "kill -9 of the agent": "the container ends; a restart gets another one",
    }
    revives_agents = False
    down_text = r"(?s)not\s+answer"
    full_text = r"(?s)accepted\s+by\s+YARN,\s+waiting\s+for\s+resources\s+in\s+queue\s+small"
    short_wait: ClassVar = {"launch_timeout": 30.0}
    limit = Limit(r"memory than its container has", {}, "x = bytearray(1 << 30)")

    @staticmethod
    def unavailable() -> str:
        return cluster.unavailable() or yarn_unavailable()

    def open(self) -> None:
        self._stack = contextlib.ExitStack()
        self._rig = self._stack.enter_context(open_rig(2))
        staging = tempfile.TemporaryDirectory(prefix="yarn-staging-", dir=sys.prefix)
        self.yarn = Yarn(self._rig.hosts, Path(self._stack.enter_context(staging)), True)
        self.yarn.open()
        self._queue = ""

    def close(self) -> None:
        self._stack.close()

    def options(self) -> dict[str, Any]:
        return {}

    def install(self, data: Path, options: Mapping[str, Any]) -> str:
        configuration = self.yarn.configuration
        site = SparkSite(
            cluster.spark_home(),
            hadoop_conf_dir=configuration,
            python=sys.executable,
            yarn_queue=self._queue,
        )
        return kernelspec.write(
            data, self._rig.hosts[0], _SAMPLE, site, options=self.yarn.options, config=options
        )

    def be_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        be_client(self._rig, monkeypatch)

    def jobs(self) -> list[str]:
        return sorted(self.yarn.applications())

    def run(self, session: Session, argv: Sequence[str]) -> str:
        place = session.provisioner.place
        host = next(h for h in self._rig.hosts if place in (h.address, h.target, h.name))
        return host.run(argv, user="root")

    def settled(self) -> list[str]:
        hosts = self._rig.hosts
        return [str(p) for h in hosts for p in h.processes() if not cluster.DAEMONS & {*p.argv}]

    def down(self) -> AbstractContextManager[None]:
        return self.yarn.lost()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Kernels are submitted to a queue that has no room for one."""
        self._queue = "small"
        try:
            yield
        finally:
            self._queue = ""
