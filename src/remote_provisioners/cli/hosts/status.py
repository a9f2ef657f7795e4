"""The state of a host after one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...hosts.deploy_agent import version_of

#: The host answers; does not answer; answers but is unusable; has an invalid configuration and is
#: not asked.
UP, DOWN, UNUSABLE, MISCONFIGURED = "up", "down", "unusable", "misconfigured"

# Fields of a kernel's status to show. The connection is left out because it contains the key.
_OF_A_KERNEL = ("kernel_id", "pid", "started", "gpus", "owned")


@dataclass(frozen=True)
class HostStatus:
    """One look. Times are seconds since the epoch. The agent reports `agent`, `load`, `kernels`."""

    host: str
    kernelspecs: Sequence[str]
    state: str
    since: float
    #: The last error and its time.
    error: str = ""
    failed: float | None = None
    #: Seconds to connect; None if it happened in the background.
    connecting: float | None = None
    #: The configured devices.
    gpus: Sequence[str] = ()
    agent: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    kernels: Sequence[Mapping[str, Any]] = ()

    @property
    def up(self) -> bool:
        return self.state == UP

    @property
    def digest(self) -> str:
        """Identifies the agent's version. Its directory is named after it."""
        return version_of(str(self.agent.get("directory", "")))

    @property
    def gpus_given(self) -> list[str]:
        """The configured devices that any user's kernels have."""
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
