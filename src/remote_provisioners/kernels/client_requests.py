"""Which requests of a client have no reply yet. We read this from the client's bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..protocol import zmtp
from ..protocol.outgoing import Outgoing
from ..protocol.unanswered_requests import MOST, Requests, headers

#: We do not read the rest of a larger message.
_LARGE_BYTES = 64 * 1024


@dataclass
class CutOff:
    """What clients had sent when their agent was killed, by the clients' identities."""

    #: The headers of requests without a reply, of which the agent may have got something.
    unanswered: dict[str, list[str]] = field(default_factory=dict)
    #: The messages of which no agent got anything, in wire format.
    unsent: dict[str, bytes] = field(default_factory=dict)


class ClientRequests:
    """Reads the bytes that pass between a client and its kernel.

    It changes nothing, but the messages that no killed agent got come first.
    """

    def __init__(self, earlier: CutOff) -> None:
        """`earlier`: from the clients' earlier connections."""
        #: The client's identity in hexadecimal, once it has introduced itself.
        self.identity = ""
        self._earlier = earlier
        self._handshake: bytes | None = b""
        self._requests = Requests()
        #: Where messages end, as offsets of the client's bytes.
        self._ends: deque[int] = deque(maxlen=MOST)
        self._position = 0
        self._to_kernel = zmtp.Decoder(_LARGE_BYTES)
        self._to_client = zmtp.Decoder(_LARGE_BYTES)
        self._is_zmtp = True

    @property
    def headers(self) -> list[str]:
        """The headers of the requests; none if the client cannot be recognized."""
        found = self._requests.headers.values() if self.identity else ()
        return [header.decode("utf-8", "replace") for header in found]

    def sent(self, data: bytes) -> bytes:
        """The client sends `data`. Returns what to send to the kernel."""
        before = b""
        if self._handshake is not None:
            known = len(self._handshake)
            self._handshake += data
            end = zmtp.end_of_handshake(self._handshake)
            if end < 0:
                return data
            self.identity = zmtp.identity(self._handshake[:end]).hex()
            earlier = self._earlier.unanswered.pop(self.identity, [])
            self._requests.add(header.encode() for header in earlier)
            before, self._handshake = data[: end - known], None
            self._position = end
            self._ends.append(end)
            data = self._earlier.unsent.pop(self.identity, b"") + data[end - known :]
        self._look(self._to_kernel, data, self._sent)
        return before + data

    def cut_off(self, outgoing: Outgoing) -> None:
        """The agent that got the client's bytes was killed, and the client has closed."""
        if not self.identity:
            return
        begin = next((end for end in self._ends if end >= outgoing.sent_end), 0)
        unsent = b""
        if begin:
            offset = outgoing.sent_end
            unsent = outgoing.unsent()[begin - offset : self._ends[-1] - offset]
        for kind, content in zmtp.Decoder(_LARGE_BYTES).feed(unsent) if unsent else ():
            if kind in (zmtp.MESSAGE, zmtp.BEGINNING):
                self._requests.headers.pop(str(headers(content)[1].get("msg_id")), None)
        if unsent:
            self._earlier.unsent[self.identity] = unsent
        if self.headers:
            self._earlier.unanswered[self.identity] = self.headers

    def received(self, data: bytes) -> None:
        """The client gets `data`, which begins after the handshake."""
        self._look(self._to_client, data, self._received)

    def _sent(self, kind: int, content: bytes) -> None:
        if kind in (zmtp.MESSAGE, zmtp.BEGINNING):
            self._requests.sent(content)
        frame = zmtp.command_frame(content) if kind == zmtp.COMMAND else content
        self._position += len(frame)
        if kind in (zmtp.MESSAGE, zmtp.COMMAND, zmtp.END):
            self._ends.append(self._position)

    def _received(self, kind: int, content: bytes) -> None:
        if kind in (zmtp.MESSAGE, zmtp.BEGINNING):
            self._requests.received(content)

    def _look(self, decoder: zmtp.Decoder, data: bytes, note: Any) -> None:
        try:
            for kind, content in decoder.feed(data) if data and self._is_zmtp else ():
                note(kind, content)
        except zmtp.ZmtpError:  # the other end will refuse it
            self._is_zmtp = False

    def watching(self, transport: Any) -> Watched:
        """The client's socket, for its stream."""
        return Watched(transport, self)


class Watched:
    """A client's socket whose stream writes to it. `requests` sees what it writes."""

    def __init__(self, transport: Any, requests: ClientRequests) -> None:
        self._transport = transport
        self._requests = requests
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.close = transport.close

    def write(self, data: bytes) -> None:
        self._requests.received(data)
        self._transport.write(data)
