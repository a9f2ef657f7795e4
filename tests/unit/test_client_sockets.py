"""A client's stream while the kernel behind it changes, against an agent that plays that part."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.kernels.client_sockets import ClientSockets
from remote_provisioners.protocol import zmtp
from remote_provisioners.protocol.answers import NO_KERNEL
from remote_provisioners.protocol.stream import Link, SocketEnd, Stream
from remote_provisioners.protocol.stream_opening import StreamOpened
from remote_provisioners.protocol.wire import Message


class RefusesAfterAnswering:
    """The agent of a kernel that has closed its sockets and runs still: its first answer to a
    stream is taken back. From the second link on the kernel is there.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.hellos: list[Message] = []
        self.received = b""
        self.refused = asyncio.Event()
        self.arrived = asyncio.Event()

    def accepted(self) -> Link:
        return Link(self.hello, lambda link: None)

    def hello(self, link: Link, request: Message) -> None:
        self.hellos.append(request)
        link.say(StreamOpened())
        if len(self.hellos) == 1:
            link.say(StreamOpened(error=NO_KERNEL))
            link.close()
            self.refused.set()
            return
        stream = Stream()
        stream.attach(link, int(request["received"]))
        stream.join(self)

    async def open_link(self, factory: Any) -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: factory(1), self.path)
        return link  # type: ignore[no-any-return]

    # -- the kernel's socket ------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"second"):
            self.arrived.set()

    def close(self) -> None:
        pass

    pause_reading = resume_reading = close


Part = tuple[RefusesAfterAnswering, ClientSockets, asyncio.Transport]


@contextlib.asynccontextmanager
async def client_of(channel: str) -> AsyncIterator[Part]:
    """A client of that channel, by a forward to such an agent."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short, for a socket's path
        agent = RefusesAfterAnswering(f"{name}/agent")
        server = await loop.create_unix_server(agent.accepted, agent.path)
        client_sockets = ClientSockets(Path(name), "k", "kernel", agent.open_link, 60.0)
        await client_sockets.listen()
        client_sockets.serve()
        path = f"{client_sockets.ip}-{client_sockets.ports[channel + '_port']}"
        client, _ = await loop.create_unix_connection(lambda: SocketEnd(Stream()), path)
        try:
            yield agent, client_sockets, client
        finally:
            client.close()
            client_sockets.close()
            server.close()


def test_what_a_client_says_to_a_kernel_that_ends_is_for_the_next_process() -> None:
    async def body() -> None:
        async with client_of("shell") as (agent, client_sockets, client):
            client.write(b"first ")
            await agent.refused.wait()
            client_sockets.pause()  # as it does when the kernel has ended
            client.write(b"and ")
            await asyncio.sleep(0.3)  # a link would be tried again meanwhile
            assert len(agent.hellos) == 1
            client_sockets.serve()
            client.write(b"second")
            await agent.arrived.wait()
            assert agent.received == b"first and second"
            assert [hello["known"] for hello in agent.hellos] == [False, False]

    asyncio.run(asyncio.wait_for(body(), 20))


def test_an_order_that_no_process_has_had_is_not_for_the_next() -> None:
    """What waits on the control channel would shut down the kernel that is being started."""

    async def body() -> None:
        async with client_of("control") as (agent, client_sockets, client):
            client.write(zmtp.greeting(b"DEALER") + b"shutdown")
            await agent.refused.wait()
            client_sockets.pause()
            while any(each.opened for each in client_sockets.clients):
                await asyncio.sleep(0.01)
            client_sockets.drop_orders()
            client_sockets.serve()
            while client_sockets.clients:
                await asyncio.sleep(0.01)
            assert len(agent.hellos) == 1

    asyncio.run(asyncio.wait_for(body(), 20))


@pytest.mark.parametrize("channel", ["iopub", "shell"])
def test_a_client_that_waits_for_a_kernel_gets_all_its_output(channel: str) -> None:
    """Also the output for a request that has arrived earlier, on another channel."""

    async def body() -> None:
        async with client_of(channel) as (agent, client_sockets, client):
            client.write(b"first ")
            await agent.refused.wait()
            client_sockets.pause()
            client.write(b"and second")
            while any(each.opened for each in client_sockets.clients):
                await asyncio.sleep(0.01)
            client_sockets.serve(begins=True)
            await agent.arrived.wait()
            assert agent.hellos[-1]["returned"] == (channel == "iopub")

    asyncio.run(asyncio.wait_for(body(), 20))


@pytest.mark.parametrize("steps", range(6))
def test_a_client_that_connects_as_they_are_closed_is_closed_too(steps: int) -> None:
    """However far the loop has come with it by then."""

    async def body() -> None:
        with (
            tempfile.TemporaryDirectory(dir="/tmp") as name,
            socket.socket(socket.AF_UNIX) as client,
        ):
            sockets = ClientSockets(Path(name), "k", "kernel", never, 60.0)
            await sockets.listen()
            client.setblocking(False)
            client.connect(f"{sockets.ip}-{sockets.ports['shell_port']}")
            for _ in range(steps):
                await asyncio.sleep(0)
            sockets.close()
            with contextlib.suppress(ConnectionResetError):
                while await asyncio.get_running_loop().sock_recv(client, 100):
                    pass  # what it was greeted with
            await asyncio.sleep(0)
            assert not sockets.clients

    async def never(factory: Any) -> asyncio.Protocol:
        raise AssertionError

    asyncio.run(asyncio.wait_for(body(), 5))
