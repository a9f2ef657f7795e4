"""The interface of transports."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import AgentError

#: A unix socket's path on the host, or a TCP port of its loopback interface.
Endpoint = str | int

#: How long a login shell's start-up files and the program after them may take to print something.
SPEAK_SECONDS = 15.0


@dataclass(frozen=True)
class Completed:
    """A command that has ended. `returncode` is None if a signal ended it.

    `late`: we gave it up because it printed nothing; stdin was not sent.
    """

    returncode: int | None
    stdout: bytes
    stderr: bytes
    late: bool = False


class Carried(Protocol):
    """What a program's stdin and stdout carry: a pipe (pipe/start.py)."""

    def begin(self, carrier: Any) -> None:
        """The program runs."""

    def data_received(self, data: bytes) -> None:
        """It has written to stdout."""

    def errors_received(self, data: bytes) -> None:
        """It has written to stderr."""

    def pause_writing(self) -> None:
        """It does not read as fast as we write."""

    def resume_writing(self) -> None:
        """It reads again."""

    def ended(self, returncode: int | None) -> None:
        """It has ended."""


class Transport(ABC):
    """An open connection to a host.

    Lives in the I/O thread. Raises only the errors of :mod:`remote_provisioners.errors`.
    """

    @abstractmethod
    async def run(self, argv: Sequence[str], stdin: bytes, after: bytes = b"") -> Completed:
        """Run a program in the home directory on the host until it ends.

        `argv` contains no value from a user. A login shell may run other programs first. So with
        `after`, send `stdin` only when the output contains `after`; the program is then Python, and
        its last word means the same with and without a shell (pipe/start.py).
        """

    @property
    def forwards(self) -> bool:
        """Whether each stream is a forward by sshd."""
        return False

    async def begin(self, argv: Sequence[str], carried: Carried) -> None:
        """Start a program in the home directory on the host, which carries a pipe.

        The program is Python; its last word means the same with and without a shell
        (pipe/start.py). `argv` contains no value from a user.
        """
        raise AgentError("programs that carry a pipe cannot run there")

    @abstractmethod
    async def open(
        self, endpoint: Endpoint, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Protocol:
        """Connect to an endpoint on the host. The protocol's transport is the stream.

        Raises ForwardingError if the host does not allow it, ConnectionError if nothing listens.
        """

    @abstractmethod
    async def expose(self, local_path: str, host_path: str) -> str:
        """Make the unix socket `local_path` of this machine reachable on the host.

        Returns its path there: `host_path`, or `local_path` itself. Raises ForwardingError.
        """

    @abstractmethod
    async def wait_closed(self) -> str:
        """Return the reason when the connection is gone."""

    @abstractmethod
    async def close(self) -> None:
        """Close it gracefully."""

    @abstractmethod
    def abort(self) -> None:
        """Drop it at once."""
