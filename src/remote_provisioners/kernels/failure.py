"""The errors for kernels that do not start. Pure."""

from __future__ import annotations

from ..errors import HostError, KernelStartError, LaunchTimeoutError, RemoteProvisionerError
from .lifecycle import Lifecycle, State


def ended_early(life: Lifecycle, host: str) -> RemoteProvisionerError:
    """The error for a kernel that ended before it listened."""
    if life.state is State.LOST:
        return HostError(f"lost while the kernel started: {life.reason}", host=host)
    printed = f"; it printed:\n{life.reason}" if life.reason else " and no output"
    return KernelStartError(
        f"the kernel ended at once with exit code {life.exit_code}{printed}", host=host
    )


def too_late(life: Lifecycle, seconds: float, tail: str, host: str) -> LaunchTimeoutError:
    """The error for a kernel that does not listen in time. `tail`: its last lines of output."""
    what = (
        "the host did not start the kernel"
        if life.state is State.STARTING
        else "the kernel did not open its ports"
    )
    printed = f"; it printed:\n{tail}" if tail else "; it printed nothing"
    return LaunchTimeoutError(
        f"{what} within {seconds:g} s (launch_timeout) and was ended{printed}", host=host
    )
