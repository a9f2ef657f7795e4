"""Records a kernel's output (iopub): subscribes to the kernel, publishes to each client's stream.

Clients share one spool; each has its position in it. Output that a client's server has not
acknowledged stays in the spool, so it survives that server. The recorder always reads from the
kernel: messages for a slow client wait here, because ZeroMQ would drop them in the kernel. The
kernel waits only while a client reads output that exceeds the limits. Standard library only: this
module travels to hosts.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Dict, Iterable, List, Optional

from ...protocol import zmtp
from ...protocol.stream import Stream
from ..channels.endpoints import endpoints_of
from .gap import Gap, parent_of
from .gap_notice import announcement, end_of_cell, gap_notices, welcome
from .source import Listener, Source
from .spool import Place, Spool
from .subscriber import Publisher, Subscriber

_LOOK_SECONDS = 0.5
#: Clients of a killed agent connect again within this time.
_RETURN_SECONDS = 2.0
#: How a message tells that a cell begins, or that the kernel is idle: its header, its content.
_INPUT, _HEAD_BYTES = b'"execute_input"', 800
_IDLE, _IDLE_BYTES = b'"idle"', 100


class Recorder(Listener, Publisher):
    """Records one kernel's output through its restarts, and publishes it to clients."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.subscribers: List[Subscriber] = []
        #: The subscription to the kernel's present process.
        self.source: Optional[Source] = None
        self._connection: Dict[str, Any] = {}
        # The first message that no client has received, if any; `owed`: a client will ask for it.
        self._kept: Optional[int] = 0
        self._owed = False
        # A client was cut off within this message: the next client gets a gap notice.
        self._cut: Optional[int] = None
        self._look: Optional[asyncio.TimerHandle] = None
        self._return: Optional[asyncio.TimerHandle] = None
        spool.places, spool.on_done = self._places, self.pump
        #: Whether the kernel waits for a client that reads output beyond the limits.
        self.held = False
        #: A text for the next cell that runs.
        self.announced = ""
        #: The message that began the cell that runs, if one does.
        self._cell: Optional[bytes] = None
        #: Whether all output has come: then the clients' streams end.
        self.over = False
        #: Called with the number of messages that a client will never get.
        self.on_dropped: Callable[[int], None] = lambda messages: None

    async def connect(self, connection: Dict[str, Any]) -> None:
        """Subscribe to the listening kernel, again after each restart.

        Clients stay connected meanwhile, so they get all output of the new process.
        """
        if self.source is not None:
            self.source.close()
        self._connection, self.over, self._cell = connection, False, None
        source = self.source = Source(self)
        connected = await source.connect(endpoints_of(connection)["iopub"])
        if not connected and self.source is source:
            self.over = True
            self.pump()

    def disconnect(self) -> None:
        """The kernel sends nothing more. Tell the clients."""
        if self.source is not None:
            self.source.close()
        self.over = True
        self.pump()

    async def ready(self) -> bool:
        """Whether the subscription worked. Otherwise clients are joined to the kernel directly."""
        return self.source is not None and await self.source.ready

    # -- clients ----------------------------------------------------------------------------

    def attach(
        self, stream: Stream, replay: bool, greeted: bool = False, returned: bool = False
    ) -> Subscriber:
        """Add a client's stream. With `replay` it gets the output that no client has received.

        With `returned` it gets all that is kept, and so do others that return soon.
        """
        position = None
        if returned:
            position = self.spool.first if self._kept is None else self._kept
            if self._return is None:
                loop = asyncio.get_running_loop()
                self._return = loop.call_later(_RETURN_SECONDS, self._all_returned)
        elif replay and self._kept is not None:
            position, self._kept, self._owed = self._kept, None, False
        else:
            position, self._cut = self._cut, None
            if not self._owed:
                self._kept = None
        subscriber = Subscriber(self, stream, position, greeted)
        self.subscribers.append(subscriber)
        return subscriber

    def detach(self, subscriber: Subscriber, vanished: bool) -> None:
        """A client's stream is over: it was closed, or it `vanished` with its server."""
        self.subscribers.remove(subscriber)
        had = subscriber.acknowledged()
        if had is not None and (vanished or not self.subscribers):
            self._kept = had if self._kept is None else min(had, self._kept)
        elif not self.subscribers and self._kept is None:
            self._kept = self.spool.end
        self._owed = self._owed or (vanished and self._kept is not None)
        self.trim()

    def _all_returned(self) -> None:
        self._return = None
        if not self._owed:
            self._kept = None
        self.trim()

    def adopted(self) -> None:
        """Another server has adopted the kernel. Keep the unreceived output for its notebook."""
        self._owed = self._kept is not None

    def subscribe(self, message: bytes) -> None:
        """Pass a client's subscription to the kernel: ipykernel answers each with a welcome.

        The end of a subscription is not passed on: it would end ours, which serves all clients.
        """
        if self.source is not None and zmtp.topic(message)[:1] == b"\1":
            self.source.send(message)

    def trim(self) -> None:
        """Drop output that all clients have received, and output beyond the limits."""
        places = [subscriber.acknowledged() for subscriber in self.subscribers]
        needed = [place for place in [self._kept, self._cut, *places] if place is not None]
        self.spool.trim(min(needed) if needed else self.spool.end)
        self.held = not self.spool.fit()
        if self.source is not None:
            self.source.hold(self.held)
        if self.held and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        """Check for stalled clients and for room."""
        self._look = None
        self.pump()

    def _places(self) -> List[Place]:
        """The positions of the clients that read."""
        now = time.monotonic()
        return [s.place for s in self.subscribers if s.place is not None and s.reads(now)]

    def cut(self, subscriber: Subscriber, number: int) -> None:
        """Disconnect a client that has the beginning of large message `number` and cannot get the
        rest. It connects again.
        """
        self._cut = number if self._cut is None else min(number, self._cut)
        subscriber.abort()

    # -- output -----------------------------------------------------------------------------

    def topics(self) -> Iterable[bytes]:
        return [topic for subscriber in self.subscribers for topic in subscriber.topics]

    def ended(self, source: Source) -> None:
        if self.source is source and self.spool.broken_off():
            self.pump()

    def append(self, message: bytes) -> None:
        """The kernel has published `message`."""
        self.spool.append(message)
        if _INPUT in message[:_HEAD_BYTES]:
            self._cell = message
        elif self._cell and _IDLE in message[-_IDLE_BYTES:]:
            over = parent_of(message) == parent_of(self._cell)
            self._cell = None if over else self._cell
        if self.announced:
            self._announce(message)

    def announce(self, text: str, now: bool) -> None:
        """Show `text` in the next cell that runs; with `now`, in the cell that runs."""
        self.announced = "\n".join(filter(None, [self.announced, text]))
        if now and self._cell is not None:
            self._announce(self._cell)
            self.pump()

    def _announce(self, message: bytes) -> None:
        text = announcement(self._connection, self.announced, message)
        if text is not None:
            self.announced = ""
            self.spool.append(text)

    def end_cell(self, parent: bytes, text: str) -> None:
        """End a cell whose last messages are lost. `parent`: the header of its request."""
        for message in end_of_cell(self._connection, text, parent):
            self.spool.append(message)
        self.pump()

    def pump(self) -> None:
        """Publish the received messages."""
        for subscriber in list(self.subscribers):
            subscriber.pump()
        self.trim()

    def welcome(self, topic: bytes) -> bytes:
        return welcome(self._connection, topic)

    def gap_notices(self, gap: Gap, following: Optional[bytes]) -> List[bytes]:
        self.on_dropped(gap.count)
        return gap_notices(self._connection, gap, following)

    def close(self) -> None:
        """Drop the output and the kernel."""
        self.over = True
        self._kept = self._cut = None
        if self.source is not None:
            self.source.close()
        self.spool.close()
        self.pump()
        for timer in (self._look, self._return):
            if timer is not None:
                timer.cancel()
