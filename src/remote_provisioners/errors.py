"""What can go wrong, one class a cause. Each message names the thing, the host and what to do.

All derive from tornado's HTTPError: raised from a provisioner inside of a hosting application,
the status code and the message reach the person who asked for the kernel. Everywhere else they
are ordinary exceptions whose text is the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.web import HTTPError

if TYPE_CHECKING:
    from typing_extensions import Self


class RemoteProvisionerError(HTTPError):
    """Base class. `host` is the host as it was written, "" when none is to blame."""

    status = 500

    def __init__(self, message: str, *, host: str = "") -> None:
        self.message = message
        self.host = host
        super().__init__(self.status, f"host {host}: {message}" if host else message)
        self.reason = type(self).__name__

    def at(self, host: str) -> Self:
        """The same error, blamed on `host` as it was written."""
        return type(self)(self.message, host=host)

    def __str__(self) -> str:
        return f"host {self.host}: {self.message}" if self.host else self.message


class ConfigurationError(RemoteProvisionerError):
    """An option, a kernelspec stanza or a start request has a value that cannot be used."""

    status = 400


class UnauthorizedError(RemoteProvisionerError):
    """KERNEL_USERNAME may not start kernels here."""

    status = 403


class HostError(RemoteProvisionerError):
    """The host cannot be used, whatever kernel is asked for: another one might do."""

    status = 503


class UnknownHostError(HostError):
    """The name does not resolve."""


class UnreachableError(HostError):
    """The connection is refused, reset or not answered."""


class HostKeyError(HostError):
    """The host's key is unknown, or not the one that is known."""


class AuthenticationError(HostError):
    """The host accepts none of our keys or tickets, or cannot show who it is."""


class RunAsError(AuthenticationError):
    """Who logs in may not run kernels as the user that they are for."""


class ForwardingError(HostError):
    """The host's sshd does not allow the forwarding of unix sockets or ports."""


def forwarding_advice(said: str) -> str:
    """What to tell of a ForwardingError."""
    return (
        f"sshd refuses to forward ({said}): it needs `AllowTcpForwarding yes` and "
        "`AllowStreamLocalForwarding yes` for this user (sshd_config)"
    )


class AgentError(HostError):
    """The agent cannot be started or spoken to: no Python, no room, a directory in the way."""


class NoRoomError(RemoteProvisionerError):
    """No host has what the request asks for, or every one that has is full."""

    status = 503


class GpusTakenError(HostError):
    """The host has the GPUs that are asked for, but other kernels have them."""


class NoHostError(HostError):
    """Several hosts could have started the kernel, and none did."""


class KernelStartError(RemoteProvisionerError):
    """The host works, the kernel does not: its program, its hook, its early end."""


class ProgramNotFoundError(KernelStartError, FileNotFoundError):
    """The kernel's program is not on the host. FileNotFoundError as well, as of a local kernel."""


class LaunchTimeoutError(KernelStartError):
    """The kernel did not open its ports in time; it has been ended."""

    status = 504


class StartCancelledError(RemoteProvisionerError):
    """Somebody has cancelled the start of a kernel; nothing of it is left."""

    status = 409


class KernelLostError(RemoteProvisionerError):
    """A kernel that was to be found again is not there."""

    status = 410


class KernelTakenError(KernelLostError):
    """A kernel that was to be found again has another server by now."""

    status = 409
