"""The first frames on a link of a stream (stream.py): the server opens it, and the agent answers.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Mapping, Sequence

from .answers import Fallible
from .structure import Structure


class OpenStream(Structure):
    """The server's first frame on a link of a stream (protocol/stream.py)."""

    #: Its name, which is secret enough.
    stream: str
    kernel_id: str
    channel: str
    #: Bytes that this side has received.
    received: int = 0
    #: The pid of the agent that first opened it, and whether that agent has answered.
    agent: int = 0
    known: bool = False
    #: Seconds to keep it after its link is lost.
    keep: float = 0.0
    #: For iopub: send the output that no client has received.
    replay: bool = False
    #: For iopub: a killed agent had the client before. Send the output since this one has it.
    returned: bool = False
    #: The client has already received the greeting of the kernel's socket.
    greeted: bool = False
    #: For shell: requests that a killed agent had and that have no reply. The headers, by the
    #: client's identity in hexadecimal.
    unanswered: Mapping[str, Sequence[str]] = {}


class StreamOpened(Fallible):
    """The agent's answer. `error`: NO_KERNEL (the kernel is not there yet or any more, and nothing
    was delivered) or NO_STREAM (the stream is over).
    """

    received: int = 0
