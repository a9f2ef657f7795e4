"""The streams of a host: the socket where servers open them, and the kernel's end of each.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from ...protocol import zmtp
from ...protocol.answers import NO_KERNEL, NO_STREAM
from ...protocol.conventions import CHANNELS, STREAM_SOCKET
from ...protocol.pace import Traffic
from ...protocol.stream import Link, SocketEnd, Stream
from ...protocol.stream_opening import OpenStream, StreamOpened
from ...protocol.wire import Message
from .. import apart
from ..background import Background, nothing
from ..channels.endpoints import Endpoint, endpoints_of
from ..channels.listening import until_listens
from ..kernels.hosted_kernel import HostedKernel
from ..output.budget import Budget
from ..output.recorder import Recorder
from ..output.spool import Spool
from ..output.subscriber import Subscriber
from ..private_socket import bind_anew, same_user
from .conversation import Conversation
from .left_conversations import Key, LeftConversations
from .lost_replies import TEXT, LostReplies

#: The channels on which kernels address a client by its identity.
_ADDRESSED = ("shell", "control", "stdin")
#: When a server comes back, the clients of all its kernels connect at once.
_BACKLOG = 1024
#: How much later than its reply the output of a cell may come.
_OUTPUT_SECONDS = 0.2


class _Served:
    """A stream and the kernel that it leads to."""

    def __init__(self, stream: Stream, kernel: HostedKernel, keep: float) -> None:
        self.stream = stream
        self.kernel = kernel
        self.keep = keep
        self.subscriber: Optional[Subscriber] = None
        self.timer: Optional[asyncio.TimerHandle] = None
        #: What the stream waits for before it is joined to its kernel.
        self.waiting: Optional[asyncio.Future[None]] = None
        #: Which client it is.
        self.key: Optional[Key] = None
        #: Ended by us, not by the client.
        self.vanished = False

    async def wait(self, future: asyncio.Future[None]) -> None:
        """Wait for it, or until the stream is over."""
        self.waiting = future
        if not self.stream.over:
            await asyncio.wait([future])
        self.waiting = None


class Streams:
    """All streams to the kernels of one agent, and the recorders of those kernels."""

    def __init__(
        self, directory: str, kernels: Dict[str, HostedKernel], notice: Callable[[str], None]
    ) -> None:
        """`notice` is called with texts for the operator."""
        self._budget = Budget(directory, notice, apart.begin)
        self._path = os.path.join(directory, STREAM_SOCKET)
        self._kernels = kernels
        self._served: Dict[str, _Served] = {}
        self._recorders: Dict[HostedKernel, Recorder] = {}
        self._traffic = Traffic()
        #: Called with a kernel and how many messages of its output a client will never get.
        self.on_dropped: Callable[[HostedKernel, int], None] = lambda kernel, messages: None
        self._server: Any = None
        self._background = Background()
        #: The clients that have left and may come back.
        self.left = LeftConversations()

    async def listen(self) -> None:
        listener = bind_anew(self._path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            self._accepted, sock=listener, backlog=_BACKLOG
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for kernel in list(self._recorders):
            self.drop(kernel)
        for served in list(self._served.values()):
            served.stream.abort()
        self.left.close()

    # -- kernels ----------------------------------------------------------------------------

    def record(self, kernel: HostedKernel) -> None:
        """Record the kernel's output from now on, unless it is encrypted. The kernel listens."""
        if "curve_publickey" in kernel.connection:
            return
        recorder = self._recorders.get(kernel)
        if recorder is None:
            bounds = kernel.output
            files = partial(apart.turns.begin, kernel.directory)
            spool = Spool(kernel.directory, bounds.memory, bounds.disk, self._budget, files)
            recorder = self._recorders[kernel] = Recorder(spool)
            recorder.on_dropped = lambda messages: self.on_dropped(kernel, messages)
        self._background.run(
            recorder.connect(kernel.connection), "recording output", recorder.disconnect
        )

    def adopted(self, kernel: HostedKernel) -> None:
        """Another server owns the kernel: end the streams of the earlier one, keep the output."""
        for served in self._of(kernel):
            served.vanished = True
            served.stream.abort()
        if kernel in self._recorders:
            self._recorders[kernel].adopted()

    def announce(self, kernel: HostedKernel, text: str, now: bool) -> None:
        """Show `text` in the next cell that runs; with `now`, in the cell that runs."""
        if kernel in self._recorders:
            self._recorders[kernel].announce(text, now)

    def drop(self, kernel: HostedKernel) -> None:
        """Forget the kernel. Its streams still deliver what they hold."""
        self.left.drop(kernel)
        recorder = self._recorders.pop(kernel, None)
        if recorder is not None:
            recorder.close()
        for served in self._of(kernel):
            served.stream.finish()

    def restarted(self, earlier: HostedKernel, kernel: HostedKernel) -> None:
        """`kernel` replaces `earlier`: clients of its output stay, other streams end."""
        self.left.drop(earlier)
        if earlier in self._recorders:
            self._recorders[kernel] = self._recorders.pop(earlier)
        for served in self._of(earlier):
            if served.subscriber is not None:
                served.kernel = kernel
            else:
                served.stream.finish()

    def _of(self, kernel: HostedKernel) -> List[_Served]:
        return [served for served in self._served.values() if served.kernel is kernel]

    # -- links ------------------------------------------------------------------------------

    def _accepted(self) -> asyncio.Protocol:
        return _ServedLink(self._hello, self._lost)  # type: ignore[arg-type]

    def _hello(self, link: _ServedLink, message: Message) -> None:
        """The first frame of a server. Raises FieldError."""
        request = OpenStream.read(message)
        served = self._served.get(request.stream)
        if served is None:
            if request.known or request.agent != os.getpid():
                _refuse(link, NO_STREAM)
                return
            kernel = self._kernels.get(request.kernel_id)
            if kernel is None or not kernel.listening or request.channel not in CHANNELS:
                _refuse(link, NO_KERNEL)
                return
            served = self._open(kernel, request)
            joining = self._join(served, request)
            self._background.run(joining, "joining a client", served.stream.abort)
        if served.timer is not None:
            served.timer.cancel()
            served.timer = None
        link.served = served
        link.say(StreamOpened(received=served.stream.received))
        served.stream.attach(link, request.received)

    def _open(self, kernel: HostedKernel, request: OpenStream) -> _Served:
        name = request.stream
        stream = Stream(lambda: self._over(name), self._traffic, request.kernel_id)
        served = self._served[name] = _Served(stream, kernel, request.keep)
        return served

    async def _join(self, served: _Served, request: OpenStream) -> None:
        """Join a stream to its kernel."""
        stream, kernel, channel = served.stream, served.kernel, request.channel
        # On every channel: no request may reach the kernel before we record its output.
        recorder = self._recorders.get(kernel)
        recorded = recorder is not None and await recorder.ready()
        if channel == "iopub" and recorder is not None and recorded:
            if not stream.over:
                served.subscriber = recorder.attach(
                    stream, request.replay, request.greeted, request.returned
                )
                stream.join(served.subscriber)
            return
        identity = b""
        if request.greeted:
            identity = await self._identity(served, channel)
            if stream.over:
                return
            earlier = self._taken(served, channel, identity)
            if earlier is not None:
                earlier.attach(stream)
                return
        endpoint = endpoints_of(kernel.connection)[channel]
        if channel == "stdin":  # some kernels bind it late, others never
            await served.wait(asyncio.ensure_future(until_listens(endpoint)))
            if stream.over:
                return
        try:
            end = await self._connect(
                served, endpoint, channel, identity if request.greeted else None
            )
        except OSError:  # the kernel has just ended; nothing was delivered, so the client may retry
            link, stream.link = stream.link, None
            if link is not None:
                link.stream = None
                _refuse(link, NO_KERNEL)
            stream.abort()
            return
        unanswered = request.unanswered.get(identity.hex()) if channel == "shell" else None
        if unanswered and isinstance(end, Conversation):
            ended = partial(self._lost_reply, kernel)
            end.find_lost(LostReplies(kernel.connection, unanswered, ended))

    def _lost_reply(self, kernel: HostedKernel, header: bytes) -> None:
        """End a cell whose reply is lost, after the output that is still on its way."""
        recorder = self._recorders.get(kernel)
        if recorder is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(_OUTPUT_SECONDS, recorder.end_cell, header, TEXT)

    async def _identity(self, served: _Served, channel: str) -> bytes:
        """The identity of a client by its handshake; b"" if it has none."""
        stream = served.stream
        complete = asyncio.get_running_loop().create_future()

        def look() -> None:
            if not complete.done() and zmtp.end_of_handshake(stream.early) >= 0:
                complete.set_result(None)

        look()
        stream.on_early = look
        await served.wait(complete)
        stream.on_early = nothing
        return zmtp.identity(stream.early) if channel in _ADDRESSED else b""

    def _taken(self, served: _Served, channel: str, identity: bytes) -> Optional[Conversation]:
        """What goes on with a client that is back."""
        if not identity:
            return None
        key = (served.kernel, channel, identity)
        for other in self._of(served.kernel):
            if other is not served and other.key == key:  # its server has not noticed yet
                other.stream.abort()
        served.key = key
        return self.left.take(key)

    async def _connect(
        self, served: _Served, endpoint: Endpoint, channel: str, identity: Optional[bytes]
    ) -> Any:
        """Connect to the kernel's socket. `identity`: see Conversation; None: not greeted.

        Returns our end. Raises OSError.
        """
        loop, stream = asyncio.get_running_loop(), served.stream
        end: Any = SocketEnd(stream)
        if identity is not None:
            key = (served.kernel, channel, identity)
            end = Conversation(identity, lambda: self._left(key, end))
        if isinstance(endpoint, str):
            await loop.create_unix_connection(lambda: end, endpoint)
        else:
            await loop.create_connection(lambda: end, "127.0.0.1", endpoint)
        if identity is not None:
            end.attach(stream)
        return end

    def _left(self, key: Key, conversation: Conversation) -> None:
        kernel = key[0]
        if self._kernels.get(kernel.kernel_id) is kernel and kernel.listening:
            self.left.keep(key, conversation)
        else:
            conversation.end()

    def _lost(self, link: Link) -> None:
        served = link.served if isinstance(link, _ServedLink) else None
        if served is not None and served.stream.link is None and not served.stream.over:
            loop = asyncio.get_running_loop()
            served.timer = loop.call_later(served.keep, self._expire, served)

    def _expire(self, served: _Served) -> None:
        served.vanished = True
        served.stream.abort()

    def _over(self, name: str) -> None:
        served = self._served.pop(name, None)
        if served is None:
            return
        if served.timer is not None:
            served.timer.cancel()
        if served.waiting is not None:
            served.waiting.cancel()
        recorder = self._recorders.get(served.kernel)
        if recorder is not None and served.subscriber in recorder.subscribers:
            recorder.detach(served.subscriber, served.vanished)


class _ServedLink(Link):
    """A link of our own user; the socket's mode says so already."""

    served: Optional[_Served] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not same_user(transport.get_extra_info("socket")):
            self.transport = None
            transport.abort()  # type: ignore[attr-defined]
            return
        super().connection_made(transport)


def _refuse(link: Link, code: str) -> None:
    link.say(StreamOpened(error=code))
    link.close()
