"""What an engine is: a resource manager that chooses the node of a kernel and starts a launcher.

A launcher is the agent with a way to reach it, as one file of Python (`launcher.py`). An engine
gets it onto a node in its own way. Nothing here assumes that the program that submits ends once the
launcher runs (it may be the pipe to it), that the engine can read a file of this machine, or that
this machine can connect to the node.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..options.launch_request import LaunchRequest
from ..placement.host_address import HostAddress


@dataclass(frozen=True)
class Launch:
    """What an engine is asked to run."""

    request: LaunchRequest
    #: Names the submission, for `follow`, `cancel` and `diagnose`; no other has this name.
    tag: str
    #: By it the launcher proves to be the one that was submitted.
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Node(ABC):
    """Where a launcher runs. Its fields are JSON: the next server finds the kernel by them.

    An engine whose nodes are reached in another way derives a class with the fields for that.
    """

    host: str
    #: Of the agent, and the interpreter that runs it.
    directory: str
    python: str
    #: The directory that the launcher was started in.
    cwd: str

    @property
    @abstractmethod
    def address(self) -> HostAddress:
        """How this machine reaches the agent: `hosts.transport.connect` knows the kind."""


@dataclass(frozen=True)
class Progress:
    """What an engine says of a submission."""

    #: The engine's own name for it; "" while there is none.
    id: str
    #: What it waits for, in words for users.
    text: str = ""
    #: Whether it has ended, or was refused: `diagnose` says why.
    over: bool = False


class Engine(ABC):
    """An engine as one kernelspec reaches it. Used in the I/O thread.

    A new engine is a class with these five methods; `submission.py` does what they have in common.
    """

    #: As users know it.
    name: ClassVar[str]
    node_type: ClassVar[type[Node]]

    @abstractmethod
    async def check(self) -> None:
        """Raise the HostError that says why the engine cannot be used; before each submission."""

    @abstractmethod
    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        """Ask for a node; return as soon as that is under way. Raises KernelStartError.

        The future has the node once the launcher there can be reached. To cancel it has to end
        what the submission has on this machine. `follow` tells of a submission that fails.
        """

    @abstractmethod
    async def follow(self, tag: str) -> Progress | None:
        """What has become of the submission; asked again and again. Raises HostError.

        None as long as the engine does not know it.
        """

    @abstractmethod
    async def cancel(self, tag: str) -> None:
        """End the submission, and return when it has ended. Nothing is to be done if it has."""

    @abstractmethod
    async def diagnose(self, tag: str) -> str:
        """Why the submission is over, as far as the engine can tell."""

    def kernel_request(self, request: LaunchRequest, node: Node) -> LaunchRequest:
        """What the agent on the node is asked to start: by default what the kernelspec says."""
        return replace(request, cwd=(*request.cwd, node.cwd), warm=0)
