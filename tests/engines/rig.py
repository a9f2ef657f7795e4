"""What the conformance suite needs to know of an engine: one class for each.

To let an engine take part:

1. Derive a class from EngineRig where the engine's tests are, such as tests/slurm/engine_rig.py.
   It opens a real engine, and says how a test breaks and fills it.
2. Name the class in `RIGS` below, with the marker of its tests. `python -m pytest tests/engines
   -m MARKER --conformance-table` runs the suite and writes the engine's column of docs/engines.md.

A row that does not apply is a text in `notes`: the table shows the text, and no test runs it.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ..conftest import IPYKERNEL, Session

#: By the name of the fixture's parameter: the class, and the marker of its tests.
RIGS = {
    "docker": ("tests.rig.docker_engine:DockerRig", "docker"),
    "podman": ("tests.rig.podman:PodmanRig", "docker"),
    "kubernetes": ("tests.kubernetes.engine_rig:KubernetesRig", "kubernetes"),
    "slurm": ("tests.slurm.engine_rig:SlurmRig", "slurm"),
    "yarn": ("tests.spark.engine_rig:YarnRig", "yarn"),
}
#: Engines that only `make test-all` runs.
LONG = {"kubernetes", "podman", "yarn"}


@dataclass(frozen=True)
class Limit:
    """A limit that a kernel hits: how it is started, what it runs, and the reason that is shown."""

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)
    code: str = "pass"
    #: Until the engine has ended it.
    seconds: float = 90.0


class EngineRig(ABC):
    """One real engine, opened once a session."""

    #: The provisioner, and the column of the table: the provisioner's, if it is empty.
    provisioner: ClassVar[str]
    column: ClassVar[str] = ""
    #: By row: why it does not apply.
    notes: ClassVar[Mapping[str, str]] = {}
    #: By row: what the table says in place of "yes".
    remarks: ClassVar[Mapping[str, str]] = {}
    #: The kernel's command where the engine runs it.
    argv: ClassVar[Sequence[str]] = IPYKERNEL
    #: Whether a killed agent is started again. Otherwise the kernel ends with it.
    revives_agents: ClassVar[bool] = True
    #: Patterns of what the user is told: the engine is down, and what a start waits for.
    down_text: ClassVar[str]
    full_text: ClassVar[str]
    #: Options for a start that waits for a few seconds only.
    short_wait: ClassVar[Mapping[str, Any]] = {"launch_timeout": 4.0}
    limit: ClassVar[Limit | None] = None

    @property
    def title(self) -> str:
        """The head of the engine's column."""
        return self.column or self.provisioner

    @staticmethod
    @abstractmethod
    def unavailable() -> str:
        """Why this machine cannot have the engine; empty if it can."""

    @abstractmethod
    def open(self) -> None:
        """Start the engine, and return when it takes kernels."""

    @abstractmethod
    def close(self) -> None:
        """End the engine."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The options of the kernelspec."""

    def install(self, data: Path, options: Mapping[str, Any]) -> str:
        """Install a kernelspec with these options below `data`, a directory of JUPYTER_PATH."""
        stanza = {"provisioner_name": self.provisioner, "config": {**self.options(), **options}}
        spec = {"argv": list(self.argv), "display_name": "engine", "language": "python"}
        directory = data / "kernels" / "engine"
        directory.mkdir(parents=True, exist_ok=True)
        content = {**spec, "metadata": {"kernel_provisioner": stanza}}
        (directory / "kernel.json").write_text(json.dumps(content))
        return "engine"

    def be_client(self, monkeypatch: pytest.MonkeyPatch) -> None:  # most need none
        """Be a user of the engine, as far as the environment tells."""
        return

    @abstractmethod
    def jobs(self) -> list[str]:
        """The names of all that waits or runs in the engine, of every kernel."""

    @abstractmethod
    def run(self, session: Session, argv: Sequence[str]) -> str:
        """Run a program as root beside the session's kernel: it sees the kernel's processes."""

    def settled(self) -> list[str]:
        """What is left on the engine's machines when no kernel is there, in words."""
        return []

    @abstractmethod
    def down(self) -> AbstractContextManager[None]:
        """The engine is killed at the beginning of the block, and is back after it."""

    @abstractmethod
    def full(self) -> AbstractContextManager[None]:
        """The engine has no room for a kernel during the block."""


def rig_class(name: str) -> type[EngineRig]:
    module, _, found = RIGS[name][0].partition(":")
    made: type[EngineRig] = getattr(importlib.import_module(module), found)
    return made
