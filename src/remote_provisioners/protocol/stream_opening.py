"""The first frames on a link of a stream (stream.py): the server opens it, and the agent answers.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from .answers import Fallible
from .structure import Structure


class OpenStream(Structure):
    """The server's first frame on a link of a stream (protocol/stream.py)."""

    #: The stream's name, which nobody can guess.
    stream: str
    kernel_id: str
    channel: str
    #: Bytes that this side has received.
    received: int = 0
    #: The pid of the agent that first opened it, and whether that agent has answered.
    agent: int = 0
    known: bool = False
    #: How many seconds to keep the stream after its link is lost.
    keep: float = 0.0
    #: For iopub: send the output that no client has received.
    replay: bool = False
    #: For iopub: the client came from a killed agent. Send all output that the new agent has.
    returned: bool = False
    #: The client has already received the greeting of the kernel's socket.
    greeted: bool = False
    #: For shell: the headers of requests that a killed agent got and that have no reply, by the
    #: client's identity in hexadecimal.
    unanswered: Mapping[str, Sequence[str]] = {}


class StreamOpened(Fallible):
    """The agent's answer. `error`: NO_KERNEL (the kernel is not there yet or any more, and nothing
    was delivered) or NO_STREAM (the stream is over).
    """

    received: int = 0
