"""Which requests of a shell client have no reply yet. We read this from the client's bytes."""

from __future__ import annotations

from typing import Any

from ..protocol import zmtp
from ..protocol.unanswered_requests import Requests

#: We do not read the rest of a larger message.
_LARGE_BYTES = 64 * 1024


class ShellRequests:
    """Reads the bytes that pass between a client and its kernel, and changes none."""

    def __init__(self, earlier: dict[str, list[str]]) -> None:
        """`earlier`: the headers of requests from earlier connections, by the client's identity."""
        #: The client's identity in hexadecimal, once it has introduced itself.
        self.identity = ""
        self._earlier = earlier
        self._handshake: bytes | None = b""
        self._requests = Requests()
        self._to_kernel = zmtp.Decoder(_LARGE_BYTES)
        self._to_client = zmtp.Decoder(_LARGE_BYTES)
        self._is_zmtp = True

    @property
    def headers(self) -> list[str]:
        """The headers of the requests; none if the client cannot be recognized."""
        found = self._requests.headers.values() if self.identity else ()
        return [header.decode("utf-8", "replace") for header in found]

    def sent(self, data: bytes) -> None:
        """The client sends `data`."""
        if self._handshake is not None:
            self._handshake += data
            end = zmtp.end_of_handshake(self._handshake)
            if end < 0:
                return
            self.identity = zmtp.identity(self._handshake[:end]).hex()
            earlier = self._earlier.pop(self.identity, [])
            self._requests.add(header.encode() for header in earlier)
            data, self._handshake = self._handshake[end:], None
        self._look(self._to_kernel, data, self._requests.sent)

    def received(self, data: bytes) -> None:
        """The client gets `data`, which begins after the handshake."""
        self._look(self._to_client, data, self._requests.received)

    def _look(self, decoder: zmtp.Decoder, data: bytes, note: Any) -> None:
        try:
            for kind, content in decoder.feed(data) if data and self._is_zmtp else ():
                if kind in (zmtp.MESSAGE, zmtp.BEGINNING):
                    note(content)
        except zmtp.ZmtpError:  # the other end will refuse it
            self._is_zmtp = False

    def watching(self, transport: Any) -> Watched:
        """The client's socket, for its stream."""
        return Watched(transport, self)


class Watched:
    """A client's socket whose stream writes to it. `requests` sees what it writes."""

    def __init__(self, transport: Any, requests: ShellRequests) -> None:
        self._transport = transport
        self._requests = requests
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.close = transport.close

    def write(self, data: bytes) -> None:
        self._requests.received(data)
        self._transport.write(data)
