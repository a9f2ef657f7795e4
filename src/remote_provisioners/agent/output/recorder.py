"""A kernel's output (iopub), kept while nobody listens: a subscriber of the kernel, a publisher
to each client's stream.

Clients share one spool; each has its place in it. What a client's server has not acknowledged is
still in the spool, so that nothing is lost with that server. The kernel is read at once: for a
slow client, too, messages wait here, not there, where ZeroMQ would drop them. Only while a client
reads what is more than may be kept the kernel waits for it. Standard library only: this module
travels to hosts.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Dict, Iterable, List, Optional

from ...protocol import zmtp
from ...protocol.stream import Stream
from ..endpoints import endpoints_of
from .gap import Gap
from .gap_notice import announcement, gap_notices, welcome
from .source import Listener, Source
from .spool import Place, Spool
from .subscriber import Publisher, Subscriber

_LOOK_SECONDS = 0.5


class Recorder(Listener, Publisher):
    """Records one kernel's output through its restarts, and publishes it to clients."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.subscribers: List[Subscriber] = []
        #: The process that is there now.
        self.source: Optional[Source] = None
        self._connection: Dict[str, Any] = {}
        # The first message that nobody has had, if any; `owed`: to somebody who will ask for it.
        self._kept: Optional[int] = 0
        self._owed = False
        # Within this message a client was cut off: the next one to come is told.
        self._cut: Optional[int] = None
        self._look: Optional[asyncio.TimerHandle] = None
        spool.places = self._places
        #: The kernel waits for a client that reads what is more than may be kept.
        self.held = False
        #: A text for the next cell that is run.
        self.announced = ""
        #: Nothing will come any more: clients are told so.
        self.over = False
        #: Called with the number of messages that a client will never get.
        self.on_dropped: Callable[[int], None] = lambda messages: None

    async def connect(self, connection: Dict[str, Any]) -> None:
        """Subscribe to the listening kernel, again after each restart.

        Clients stay connected meanwhile: nothing that the new process says is lost to them.
        """
        if self.source is not None:
            self.source.close()
        self._connection, self.over = connection, False
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

    def attach(self, stream: Stream, replay: bool, greeted: bool = False) -> Subscriber:
        """Add a client's stream. With `replay` it gets the output that no client has received."""
        position = None
        if replay and self._kept is not None:
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

    def adopted(self) -> None:
        """Another server has adopted the kernel. Keep the unreceived output for its notebook."""
        self._owed = self._kept is not None

    def subscribe(self, message: bytes) -> None:
        """Pass a client's subscription on: ipykernel answers each with a welcome.

        Not its end: the kernel would take it for ours, which is everybody's.
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
        """What is left of a large message, of this number, is gone for a client that has had its
        beginning: it has to connect again.
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
        if self.announced:
            text = announcement(self._connection, self.announced, message)
            if text is not None:
                self.announced = ""
                self.spool.append(text)

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
        if self._look is not None:
            self._look.cancel()
