"""What can go wrong, one class for each cause. Messages name the problem, the host and the remedy.

All derive from tornado's HTTPError, so that in a hosting application the status code and the
message reach the user who started the kernel. Everywhere else they are ordinary exceptions with
the message as their text. Applications do not break lines (JupyterLab's dialog is as wide as the
longest), so the text has short ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tornado.web import HTTPError

if TYPE_CHECKING:
    from typing_extensions import Self

LINE_WIDTH = 90
#: Where a long line is broken first: between sentences, and before what explains them.
_MARKS = re.compile(r"(?<=[.:;?]) (?=\S)| (?=\()")


def in_lines(text: str) -> str:
    """The text in lines of at most LINE_WIDTH characters. A longer word has its own line."""
    lines: list[str] = []
    for left in text.splitlines():
        indent = left[: len(left) - len(left.lstrip())][: LINE_WIDTH // 2]
        rest = left
        while len(rest) > LINE_WIDTH and (at := _break(rest, len(indent))) > 0:
            lines.append(rest[:at].rstrip())
            rest = indent + rest[at:].strip()
        lines.append(rest)
    return "\n".join(lines)


def _break(line: str, indent: int) -> int:
    """Where to break a long line; 0 if it is a single word."""
    marks = [found.start() for found in _MARKS.finditer(line, 0, LINE_WIDTH + 1)]
    sentences = [at for at in marks if line.count("(", 0, at) == line.count(")", 0, at)]
    if sentences and sentences[-1] > LINE_WIDTH // 3:
        return sentences[-1]
    at = line.rfind(" ", indent + 1, LINE_WIDTH + 1)
    return at if at > 0 else max(0, line.find(" ", LINE_WIDTH))


class RemoteProvisionerError(HTTPError):
    """Base class. `host` is the host as configured, "" if no host is to blame."""

    status = 500

    def __init__(self, message: str, *, host: str = "") -> None:
        self.message = message
        self.host = host
        super().__init__(self.status, str(self))
        self.reason = type(self).__name__

    def at(self, host: str) -> Self:
        """The same error, blamed on `host`."""
        return type(self)(self.message, host=host)

    @property
    def unbroken(self) -> str:
        """The text for a terminal, which breaks long lines itself."""
        return f"host {self.host}: {self.message}" if self.host else self.message

    def __str__(self) -> str:
        return in_lines(self.unbroken)


class ConfigurationError(RemoteProvisionerError):
    """An option, a kernelspec stanza or a start request has an invalid value."""

    status = 400


class UnauthorizedError(RemoteProvisionerError):
    """KERNEL_USERNAME may not start kernels here."""

    status = 403


class HostError(RemoteProvisionerError):
    """The host cannot run any kernel. Another host might."""

    status = 503


class UnknownHostError(HostError):
    """The name does not resolve."""


class UnreachableError(HostError):
    """The connection is refused, reset or not answered."""


class AnotherMachineError(UnreachableError):
    """The host's name leads to another machine than the one that has our kernels."""


class HostKeyError(HostError):
    """The host's key is unknown or has changed."""


class AuthenticationError(HostError):
    """The host accepts none of our keys or tickets, or cannot prove its identity."""


class LoginWantedError(AuthenticationError):
    """The host wants a person to log in. Until she has, it is not asked again."""


class RunAsError(AuthenticationError):
    """Who logs in may not run kernels as the user that they are for."""


class ForwardingError(HostError):
    """The host's sshd does not allow the forwarding of unix sockets or ports."""


def forwarding_advice(said: str) -> str:
    """The message of a ForwardingError. Lines of `said` after the first one come last."""
    said, _, more = said.partition("\n")
    return (
        f"sshd refuses to forward ({said}).\n"
        "It needs `AllowTcpForwarding yes` and `AllowStreamLocalForwarding yes` for this user\n"
        f"(sshd_config).\n{more}"
    ).rstrip()


class AgentError(HostError):
    """The agent cannot start or does not answer: no Python, a full disk, a foreign directory."""


class UnusablePythonError(AgentError):
    """An interpreter is not on the host, or is too old for the agent: another one may do."""


class NoRoomError(RemoteProvisionerError):
    """No host meets the requirements of the request, or all that do are full."""

    status = 503


class GpusTakenError(HostError):
    """Other kernels have the GPUs that the request needs."""


class HostFullError(HostError):
    """The host has as many kernels as its `capacity`. The message is that number."""


class NoHostError(HostError):
    """Several hosts were tried, and none could start the kernel."""


class KernelStartError(RemoteProvisionerError):
    """The host works but the kernel does not: its program, its hook, or it ended at once."""


class ProgramNotFoundError(KernelStartError, FileNotFoundError):
    """The kernel's program is not on the host. FileNotFoundError as well, as of a local kernel."""


class LaunchTimeoutError(KernelStartError):
    """The kernel did not open its ports in time and was ended."""

    status = 504


class StartCancelledError(RemoteProvisionerError):
    """A user cancelled the start of a kernel. Nothing of it is left."""

    status = 409


class KernelLostError(RemoteProvisionerError):
    """A kernel that should be adopted no longer exists."""

    status = 410


class NodeGoneError(KernelLostError):
    """The node that an engine gave a kernel has ended: a container, a pod, a job."""


class KernelTakenError(KernelLostError):
    """A kernel that should be adopted belongs to another server by now."""

    status = 409
