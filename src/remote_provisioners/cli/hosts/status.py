"""What is known of a host after a look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: The host answers; it does not; it answers and cannot be used; it is not asked, because its
#: configuration cannot be used.
UP, DOWN, UNUSABLE, MISCONFIGURED = "up", "down", "unusable", "misconfigured"

# Of a kernel as its agent describes it. Not what its connection consists of: there is a key in it.
_OF_A_KERNEL = ("kernel_id", "pid", "started", "gpus", "owned")


@dataclass(frozen=True)
class HostStatus:
    """One look. Moments are seconds since the epoch; `agent`, `load`, `kernels` are the agent's."""

    host: str
    kernelspecs: Sequence[str]
    state: str
    since: float
    #: The last error, and when it was seen.
    error: str = ""
    failed: float | None = None
    #: Seconds that connecting took; None: not known, it was done in the background.
    connecting: float | None = None
    #: The devices that are configured.
    gpus: Sequence[str] = ()
    agent: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    kernels: Sequence[Mapping[str, Any]] = ()

    @property
    def up(self) -> bool:
        return self.state == UP

    @property
    def digest(self) -> str:
        """What tells versions of the agent apart: its directory is named after it."""
        return str(self.agent.get("directory", "")).rpartition("/")[2]

    @property
    def gpus_given(self) -> list[str]:
        """The configured devices that kernels have, whoever's they are."""
        taken = set(self.load.get("gpus_taken", ()))
        return [gpu for gpu in self.gpus if gpu in taken]

    def as_json(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "kernelspecs": list(self.kernelspecs),
            "state": self.state,
            "since": self.since,
            "error": self.error,
            "failed": self.failed,
            "connecting": self.connecting,
            "agent": {**self.agent, "version": self.digest} if self.agent else None,
            "load": dict(self.load) or None,
            "gpus": {"configured": list(self.gpus), "given": self.gpus_given},
            "kernels": [
                {
                    **{name: kernel.get(name) for name in _OF_A_KERNEL},
                    "running": kernel.get("pid") is not None and kernel.get("exit_code") is None,
                }
                for kernel in self.kernels
            ],
        }
