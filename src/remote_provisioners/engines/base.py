"""The interface of engines: systems that choose a kernel's node and start a launcher.

A launcher is the agent with a way to reach it, as one Python file (`launcher.py`). Each engine has
its own way of getting it onto a node. The interface does not assume that the submitting program
ends once the launcher runs (it may be the pipe to the launcher), that the engine can read files of
this machine, or that this machine can connect to the node.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..options.launch_request import LaunchRequest
from ..placement.host_address import HostAddress

#: How often to follow a submission to an engine that does not tell of news.
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Launch:
    """A request to an engine."""

    request: LaunchRequest
    #: The unique name of the submission, for `follow`, `cancel` and `diagnose`: lower-case letters,
    #: digits and hyphens.
    tag: str
    #: Proves that the launcher is the submitted one.
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Node(ABC):
    """Where a launcher runs. The fields are JSON, and the next server finds the kernel with them.

    An engine that reaches its nodes in another way derives a class with more fields.
    """

    host: str
    #: The directory of an agent that runs there, and the interpreter that runs it. "" for both: the
    #: server starts an agent there, as on any host.
    directory: str
    python: str
    #: The directory that the launcher was started in; "" for the home directory.
    cwd: str

    @property
    @abstractmethod
    def address(self) -> HostAddress:
        """The agent's address, of a kind that `hosts.transport.connect` understands."""


@dataclass(frozen=True)
class Progress:
    """The state of a submission."""

    #: The engine's own name for it; "" if there is none yet.
    id: str
    #: What it waits for, in words for users.
    text: str = ""
    #: Whether it has ended or was refused. `diagnose` says why.
    over: bool = False
    #: Whether it waits in the engine's queue, for which `queue_seconds` is the limit.
    queued: bool = False


class Engine(ABC):
    """An engine, as configured by one kernelspec. Used in the I/O thread.

    A new engine is a class with these five methods. `submission.py` does the common work.
    """

    #: The name for users.
    name: ClassVar[str]
    node_type: ClassVar[type[Node]]
    #: Whether a node outlives its kernel: a restart uses it again, and only `cancel` frees it.
    node_stays: ClassVar[bool] = False

    #: Seconds that a submission may wait in the engine's queue; None: launch_timeout covers that.
    queue_seconds: float | None = None
    #: The option with that limit, for errors.
    queue_option: ClassVar[str] = ""

    async def prepare(self) -> None:  # most need nothing
        """Do what this process needs only once, such as a slow import. `launch_timeout` begins
        after that. Raises ConfigurationError.
        """
        return

    @abstractmethod
    async def check(self) -> None:
        """Check the engine before each submission. Raises the HostError that says what is wrong."""

    @abstractmethod
    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        """Request a node. Returns when the request is in progress. Raises KernelStartError.

        The future gets the node when its launcher can be reached. Cancelling the future must end
        everything of the submission on this machine. `follow` reports a failed submission.
        """

    @abstractmethod
    async def follow(self, tag: str) -> Progress | None:
        """The state of the submission; called repeatedly. Raises HostError.

        None until the engine knows it.
        """

    async def changed(self, tag: str) -> None:
        """Return when `follow` may have news."""
        await asyncio.sleep(POLL_SECONDS)

    async def seconds_left(self, tag: str) -> float | None:
        """The seconds until the engine ends the node; None: it does not, or nobody knows."""
        return None

    @abstractmethod
    async def cancel(self, tag: str) -> None:
        """End the submission and return when it has ended. Does nothing if it has ended already.

        Raises HostError if the engine did not end it.
        """

    @abstractmethod
    async def diagnose(self, tag: str) -> str:
        """Why the submission ended, as far as the engine knows."""

    def checks(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        """The doctor's checks before it starts a kernel: names, and what returns what it has seen.

        They raise RemoteProvisionerError.
        """

        async def answers() -> str:
            await self.check()
            return "answers"

        return [("engine", answers)]

    def kernel_request(self, request: LaunchRequest, node: Node) -> LaunchRequest:
        """The request for the agent on the node. By default, that of the kernelspec."""
        cwd = (*request.cwd, node.cwd) if node.cwd else request.cwd
        return replace(request, cwd=cwd, warm=0)
