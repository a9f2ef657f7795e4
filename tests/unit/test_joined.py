"""Two joined connections: what one side sends arrives, and nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from remote_provisioners.protocol.joined import End


class Watched(End):
    def __init__(self) -> None:
        super().__init__()
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[socket.socket, socket.socket, list[Watched]]]:
    """The outer ends of two connections that are joined, and the inner ones."""
    loop = asyncio.get_running_loop()
    ends = [Watched(), Watched()]
    ends[0].other, ends[1].other = ends[1], ends[0]
    outer = []
    for end in ends:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        outer.append(ours)
        await loop.connect_accepted_socket(lambda end=end: end, theirs)
    with outer[0], outer[1]:
        yield outer[0], outer[1], ends


async def read(connection: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    found = b""
    while piece := await asyncio.get_running_loop().sock_recv(connection, 1 << 20):
        found += piece
    return found


def test_a_client_that_leaves() -> None:
    """It closes its connection, and then the program does."""

    async def body() -> None:
        async with pair() as (client, program, ends):
            await asyncio.get_running_loop().sock_sendall(client, b"asked")
            client.close()
            assert await read(program) == b"asked"
            program.close()
            for end in ends:
                await end.lost.wait()

    asyncio.run(asyncio.wait_for(body(), 5))


def test_a_client_that_waits_for_the_answer() -> None:
    """It ends its own half first. The answer is larger than what fits on the way."""
    answer = bytes(range(256)) * 8192

    async def body() -> None:
        async with pair() as (client, program, ends):
            client.shutdown(socket.SHUT_WR)
            assert await read(program) == b""
            reading = asyncio.ensure_future(read(client))
            await asyncio.get_running_loop().sock_sendall(program, answer)
            program.shutdown(socket.SHUT_WR)
            assert await reading == answer
            for end in ends:
                await end.lost.wait()

    asyncio.run(asyncio.wait_for(body(), 5))
