"""What the forwards alone cost: five sockets a kernel, and more for each client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from remote_provisioners.kernels.client_sockets import ClientSockets
from remote_provisioners.kernels.socket_directory import SocketDirectory
from remote_provisioners.protocol.conventions import CHANNELS
from remote_provisioners.protocol.stream import Link, Stream
from remote_provisioners.protocol.stream_opening import StreamOpened
from remote_provisioners.protocol.wire import Message

from .pipe import join
from .process import Stopwatch, descriptors, kernel_memory, raise_descriptor_limit, resident

_KERNELS, _CLIENTS = 2000, 200


@dataclass(frozen=True)
class Cost:
    """Of one kernel's forward, or of one client that is connected to all its channels."""

    descriptors: float
    bytes: float
    #: Of the operating system, outside of the process.
    kernel_bytes: float
    open_seconds: float
    close_seconds: float


def measure() -> dict[str, Cost]:
    raise_descriptor_limit()
    return asyncio.run(_measure())


async def _measure() -> dict[str, Cost]:
    directory = SocketDirectory()
    forwards = [ClientSockets(directory.path, f"{n:08x}", "", _open, 60) for n in range(_KERNELS)]
    clients = [socket.socket(socket.AF_UNIX) for _ in range(_CLIENTS * len(CHANNELS))]
    before = descriptors(), resident(), kernel_memory()
    watch = Stopwatch()
    for forward in forwards:
        await forward.listen()
        forward.serve()
    opening = watch.seconds
    listening = descriptors(), resident(), kernel_memory()

    watch = Stopwatch()
    paths = [f"{f.ip}-{port}" for f in forwards[:_CLIENTS] for port in f.ports.values()]
    for client, path in zip(clients, paths, strict=True):
        client.connect(path)
        await asyncio.sleep(0)
    while sum(end.known for f in forwards for end in f.clients) < len(clients):
        await asyncio.sleep(0)
    joining = watch.seconds
    joined = descriptors(), resident(), kernel_memory()

    watch = Stopwatch()
    for client in clients:
        client.close()
    while any(f.clients for f in forwards):
        await asyncio.sleep(0)
    leaving = watch.seconds
    watch = Stopwatch()
    for forward in forwards:
        forward.close()
    await asyncio.sleep(0)
    closing = watch.seconds
    directory.remove()
    return {
        "forward": _cost(before, listening, _KERNELS, opening, closing),
        "client": _cost(listening, joined, _CLIENTS, joining, leaving),
    }


def _cost(
    before: tuple[int, int, int],
    after: tuple[int, int, int],
    count: int,
    opening: float,
    closing: float,
) -> Cost:
    opened, resident_, kernel = (now - then for then, now in zip(before, after, strict=True))
    return Cost(opened / count, resident_ / count, kernel / count, opening / count, closing / count)


async def _open(protocol_factory: Callable[[int], asyncio.Protocol]) -> asyncio.Protocol:
    """The agent's end, which answers; what it takes is measured as well."""

    def hello(link: Link, request: Message) -> None:
        stream = Stream()
        stream.join(_Nothing())
        link.say(StreamOpened())
        stream.attach(link, 0)

    protocol = protocol_factory(0)
    join(protocol, Link(hello, lambda link: None))
    return protocol


class _Nothing:
    """A kernel's socket that says nothing."""

    def resume_reading(self) -> None:
        pass

    close = resume_reading
