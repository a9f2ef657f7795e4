"""How kernels ended, or did not start: in words."""

from __future__ import annotations

import contextlib
import logging
import signal

from ..errors import HostError, KernelStartError, LaunchTimeoutError, RemoteProvisionerError
from ..protocol.agent_events import Exited
from .lifecycle import Lifecycle, State

log = logging.getLogger(__name__)

#: How kernels end that are told to.
_ASKED = (0, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)


def exit_text(code: int | None) -> str:
    """An exit code with the name of its signal: "exit code -9 (SIGKILL)"."""
    name = ""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = f" ({signal.Signals(-code).name})"
    return f"exit code {code}{name}"


def death_text(code: int | None, reason: str) -> str:
    """How a kernel ended, and its last words: "exit code 3; its last output:\\n..."."""
    return f"{exit_text(code)}: {reason}" if reason else exit_text(code)


def log_end(kernel_id: str, host: str, event: Exited) -> None:
    """Say in the log how a kernel ended; loudly where nobody seems to have asked for it."""
    asked = event.exit_code in _ASKED and not event.ended_by
    text = death_text(event.exit_code, event.reason if event.exit_code else "")
    log.log(
        logging.INFO if asked else logging.WARNING, "kernel %s on %s: %s", kernel_id, host, text
    )


def ended_early(life: Lifecycle, host: str) -> RemoteProvisionerError:
    """The error for a kernel that ended before it listened."""
    if life.state is State.LOST:
        return HostError(f"the kernel was lost while it started: {life.reason}", host=host)
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
            "The environment hook still runs: the next start uses its result.\n"
            "If it always takes so long, raise launch_timeout.",
            host=host,
        )
    limit = f"within {seconds:g} s (launch_timeout)"
    if life.state is State.STARTING:
        return LaunchTimeoutError(
            f"the host did not start the kernel {limit}: the start was cancelled", host=host
        )
    printed = f"it printed:\n{tail}" if tail else "it printed nothing"
    return LaunchTimeoutError(
        f"the kernel did not open its ports {limit} and was ended; {printed}", host=host
    )
