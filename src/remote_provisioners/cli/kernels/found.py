"""A kernel found on a host, and how to pick one by its id. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...placement.inventory import HostSpec
from ..command import CommandError

_SAME = [
    "pid",
    "started",
    "exit_code",
    "ended_by",
    "gpus",
    "owned",
    "memory",
    "idle",
    "lease",
    "lease_left",
]


@dataclass(frozen=True)
class FoundKernel:
    """`described` is its agent's description (KernelStatus)."""

    host: HostSpec
    described: Mapping[str, Any] = field(repr=False)
    #: The directory of its agent; "" if the agent is of our version.
    agent: str = ""
    #: What an engine calls its node, and the seconds until the engine ends that.
    job: str = ""
    seconds_left: float | None = None

    @property
    def kernel_id(self) -> str:
        return str(self.described["kernel_id"])

    @property
    def owned(self) -> bool:
        """Whether the kernel's server is connected to its host."""
        return bool(self.described["owned"])

    @property
    def running(self) -> bool:
        return self.described["pid"] is not None and self.described["exit_code"] is None

    @property
    def age(self) -> float | None:
        """Seconds since its process started."""
        started = self.described["started"]
        return None if started is None else max(0.0, time.time() - started)

    @property
    def state(self) -> str:
        """The state in one or two words."""
        if self.described["pid"] is None:
            return "starting"
        if self.running:
            return "in use" if self.owned else "left"
        return f"ended, exit code {self.described['exit_code']}"

    def as_json(self) -> dict[str, Any]:
        found = {name: self.described.get(name) for name in _SAME}
        where = {"id": self.kernel_id, "host": self.host.name, "state": self.state}
        of_engine = {"job": self.job, "seconds_left": self.seconds_left} if self.job else {}
        return {**where, "running": self.running, "age": self.age, **found, **of_engine}


def pick(found: Sequence[FoundKernel], word: str, failures: Sequence[str]) -> FoundKernel:
    """The kernel whose id is `word` or begins with it. Raises CommandError with the choices.

    `failures`: hosts that did not answer, with the reasons.
    """
    exact = [kernel for kernel in found if kernel.kernel_id == word]
    matching = exact or [kernel for kernel in found if kernel.kernel_id.startswith(word)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise CommandError(f"{word!r} matches several kernels: {_names(matching)}")
    unknown = f"no kernel {word!r} (found: {_names(found)})"
    raise CommandError("; ".join([unknown, *(f"no answer from {failure}" for failure in failures)]))


def _names(found: Sequence[FoundKernel]) -> str:
    return ", ".join(f"{kernel.kernel_id} on {kernel.host.name}" for kernel in found) or "none"
