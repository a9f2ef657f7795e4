"""The connection to one process of a kernel, subscribed to all of its output.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
from typing import Any, Iterable, Optional

from ...protocol import zmtp
from ..channels.endpoints import Endpoint
from .large_message import LARGE_BYTES
from .spool import Spool

_HANDSHAKE_SECONDS = 5.0


class Listener:
    """The receiver of a kernel's output."""

    spool: Spool

    def topics(self) -> Iterable[bytes]:
        """The clients' subscriptions, for the kernel's next process."""
        raise NotImplementedError

    def append(self, message: bytes) -> None:
        """The kernel has published `message`."""
        raise NotImplementedError

    def pump(self) -> None:
        """Publish the received messages."""
        raise NotImplementedError

    def ended(self, source: Source) -> None:
        """`source` has ended."""
        raise NotImplementedError


class Source(asyncio.Protocol):
    """The connection to one process of the kernel, subscribed to everything it publishes."""

    def __init__(self, listener: Listener) -> None:
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._listener = listener
        self._zmtp = zmtp.Connection(b"SUB", large=LARGE_BYTES)
        self._transport: Any = None
        self._held = False

    async def connect(self, endpoint: Endpoint) -> bool:
        """Connect. Returns whether the other end speaks a supported ZMTP."""
        loop = asyncio.get_running_loop()
        try:
            if isinstance(endpoint, str):
                await loop.create_unix_connection(lambda: self, endpoint)
            else:
                await loop.create_connection(lambda: self, "127.0.0.1", endpoint)
            await asyncio.wait_for(asyncio.shield(self.ready), _HANDSHAKE_SECONDS)
        except (OSError, asyncio.TimeoutError):
            self.close()
        return self.ready.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.send(b"")

    def data_received(self, data: bytes) -> None:
        spool = self._listener.spool
        try:
            for kind, content in self._zmtp.feed_parts(data):
                if kind == zmtp.MESSAGE:
                    self._listener.append(content)
                elif kind == zmtp.BEGINNING:
                    spool.begin(content)
                else:
                    spool.proceed(content, complete=kind == zmtp.END)
        except zmtp.ZmtpError:
            self.close()
            return
        if self._zmtp.ready and not self.ready.done():
            topics = [b"", *self._listener.topics()]
            self.send(b"".join(zmtp.message([b"\1" + topic]) for topic in topics))
            self._decide(True)
        elif self._zmtp.output:
            self.send(b"")
        self._listener.pump()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(self._zmtp.take_output() + data)

    def hold(self, held: bool) -> None:
        """Pause or resume reading from the kernel."""
        if held != self._held and self._transport is not None:
            self._held = held
            if held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def close(self) -> None:
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._end()

    def _end(self) -> None:
        self._decide(False)
        self._listener.ended(self)

    def _decide(self, ready: bool) -> None:
        if not self.ready.done():
            self.ready.set_result(ready)
