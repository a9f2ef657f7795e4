"""The errors for kernels that do not start. Pure."""

from __future__ import annotations

import contextlib
import signal

from ..errors import HostError, KernelStartError, LaunchTimeoutError, RemoteProvisionerError
from .lifecycle import Lifecycle, State


def exit_text(code: int | None) -> str:
    """An exit code with the name of its signal: "exit code -9 (SIGKILL)"."""
    name = ""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = f" ({signal.Signals(-code).name})"
    return f"exit code {code}{name}"


def ended_early(life: Lifecycle, host: str) -> RemoteProvisionerError:
    """The error for a kernel that ended before it listened."""
    if life.state is State.LOST:
        return HostError(f"lost while the kernel started: {life.reason}", host=host)
    printed = f"; it printed:\n{life.reason}" if life.reason else " and no output"
    return KernelStartError(
        f"the kernel ended at once with {exit_text(life.exit_code)}{printed}", host=host
    )


def too_late(
    life: Lifecycle, seconds: float, tail: str, host: str, hook: str = ""
) -> LaunchTimeoutError:
    """The error for a kernel that does not listen in time. `tail`: its last lines of output.

    `hook`: the environment hook, which a start waits for before there is a kernel.
    """
    if life.state is State.STARTING and hook:
        return LaunchTimeoutError(
            f"the host did not start the kernel within {seconds:g} s (launch_timeout)\n"
            "The environment hook still ran: its result serves the next start.\n"
            "If it always takes so long, raise launch_timeout.",
            host=host,
        )
    what = (
        "the host did not start the kernel"
        if life.state is State.STARTING
        else "the kernel did not open its ports"
    )
    printed = f"; it printed:\n{tail}" if tail else "; it printed nothing"
    return LaunchTimeoutError(
        f"{what} within {seconds:g} s (launch_timeout) and was ended{printed}", host=host
    )
