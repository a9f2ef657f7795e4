"""A client's conversation with one socket of its kernel. It outlives the client.

A client may vanish while its kernel computes: its server was killed. The kernel's answers then wait
here until a client with the same identity comes back (Jupyter's servers use the session's id as the
identity). Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Tuple

from ...protocol import zmtp
from ...protocol.stream import Stream
from ...protocol.unanswered_requests import Requests
from .lost_replies import LostReplies

#: A larger message is passed on while it arrives, and is not kept.
_LARGE_BYTES = 1024 * 1024
#: The memory that a message takes besides its bytes.
_OVERHEAD = 100


class Conversation(asyncio.Protocol):
    """The connection to the kernel's socket, and the `socket` of the client's present stream.

    The client has been greeted already (ZMTP's handshake): each side finishes its own handshake. A
    message that arrives before both have is held back: libzmq would close the connection.
    """

    def __init__(self, identity: bytes, on_left: Callable[[], None]) -> None:
        """`identity`: the client's; b"" if nobody can come back as this client.

        `on_left` is called when the client has left and may come back for answers, and when an
        answer comes for a client that has left.
        """
        self.identity = identity
        self._on_left = on_left
        self._stream: Optional[Stream] = None
        self._transport: Any = None
        # The handshake of each side so far; None once it is complete.
        self._kernels: Optional[bytes] = b""
        self._clients: Optional[bytes] = b""
        self._held: List[bytes] = []
        self._begun = False
        # What the client may not have: messages, each with its end in the client's stream.
        self._answers: Deque[Tuple[int, bytes]] = deque()
        #: The bytes that they take.
        self.size = 0
        self._requests = Requests()
        # Looks for replies that the client will not get.
        self._lost: Optional[LostReplies] = None
        self._from_client = zmtp.Decoder(_LARGE_BYTES)
        self._from_kernel = zmtp.Decoder(_LARGE_BYTES)
        # Within a large message: to the kernel; and the stream that has the beginning of an answer.
        self._amid_request = False
        self._amid_answer: Optional[Stream] = None

    # -- clients ----------------------------------------------------------------------------

    def attach(self, stream: Stream) -> None:
        """Serve the client at the other end of `stream`; first with what it has missed."""
        self._stream, self._clients = stream, b""
        self._from_client = zmtp.Decoder(_LARGE_BYTES)
        stream.on_acknowledged = self._acknowledged
        missed, self._answers, self.size = self._answers, deque(), 0
        stream.join(self)
        for _, message in missed:
            self._answer(message)

    @property
    def is_open(self) -> bool:
        """Whether the kernel is still there."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waits(self) -> bool:
        """Whether the client has missed an answer, or an answer will come."""
        return bool(self._requests or self._answers)

    @property
    def missed(self) -> int:
        """The number of answers that the client has missed."""
        return len(self._answers)

    def forget_oldest(self) -> None:
        """Drop the oldest missed answer."""
        self.size -= len(self._answers.popleft()[1]) + _OVERHEAD

    def find_lost(self, lost: LostReplies) -> None:
        """The client has sent requests to a killed agent: see LostReplies."""
        self._lost = lost
        self._requests.add(lost.headers)
        self._send(lost.question)

    def end(self) -> None:
        """Close the connection to the kernel."""
        self._answers.clear()
        self.size = 0
        if self._transport is not None:
            self._transport.close()

    # -- the stream's socket ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._clients is not None:
            self._clients += data
            end = zmtp.end_of_handshake(self._clients)
            if end < 0:
                return
            said, data, self._clients = self._clients[:end], self._clients[end:], None
            if not self._begun:
                self._begun = True
                self._write(said)
        if not self.identity:
            self._send(data)
            return
        try:
            for kind, content in self._from_client.feed(data) if data else ():
                self._request(kind, content)
        except zmtp.ZmtpError:
            self.end()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """The client has left."""
        self._stream = None
        self.resume_reading()
        if self.identity and self.is_open and self._kernels is None and not self._amid_request:
            self._on_left()
        else:
            self.end()

    # -- the kernel's side ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._kernels is not None:
            self._kernels += data
            end = zmtp.end_of_handshake(self._kernels)
            if end < 0:
                return
            data, self._kernels = self._kernels[end:], None
            for held in self._held:
                self._write(held)
            self._held.clear()
        if not data:
            return
        if not self.identity:
            if self._stream is not None:
                self._stream.send(data)
            return
        try:
            for kind, content in self._from_kernel.feed(data):
                self._receive(kind, content)
        except zmtp.ZmtpError:
            self.end()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        if self._stream is not None:
            self._stream.finish()
        else:
            self._on_left()

    def _receive(self, kind: int, content: bytes) -> None:
        if kind in (zmtp.MESSAGE, zmtp.BEGINNING):
            self._requests.received(content)
        if kind == zmtp.MESSAGE:
            if self._lost is not None and self._lost.is_answer(content):
                self._end_lost(self._lost)
            else:
                self._answer(content)
            return
        if kind == zmtp.COMMAND:
            content = zmtp.command_frame(content)
        elif kind == zmtp.BEGINNING:
            self._amid_answer = self._stream
        elif self._amid_answer is not self._stream:
            return  # the client that has the beginning has left
        if self._stream is not None:
            self._stream.send(content)
        else:
            self._on_left()

    def _answer(self, message: bytes) -> None:
        end = 0
        if self._stream is not None:
            self._stream.send(message)
            end = self._stream.outgoing.end
        self._answers.append((end, message))
        self.size += len(message) + _OVERHEAD
        if self._stream is None:
            self._on_left()

    def _end_lost(self, lost: LostReplies) -> None:
        """The kernel has answered a later request, so the replies to the earlier ones are lost."""
        self._lost = None
        for reply in lost.replies(self._requests):
            self._requests.received(reply)
            self._answer(reply)

    def _acknowledged(self) -> None:
        if self._stream is not None:
            arrived = self._stream.outgoing.acknowledged
            while self._answers and self._answers[0][0] <= arrived:
                self.forget_oldest()

    def _request(self, kind: int, content: bytes) -> None:
        if kind == zmtp.COMMAND:
            content = zmtp.command_frame(content)
        elif kind in (zmtp.MESSAGE, zmtp.BEGINNING):
            self._requests.sent(content)
            self._amid_request = kind == zmtp.BEGINNING
        elif kind == zmtp.END:
            self._amid_request = False
        self._send(content)

    def _send(self, data: bytes) -> None:
        """Send to the kernel as soon as its handshake is complete."""
        if data and self._kernels is not None:
            self._held.append(data)
        elif data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
