"""A port of this machine, whose host's agent takes its time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from remote_provisioners.ports.local_port import LocalPort
from remote_provisioners.protocol.ports import PORT_SOCKET


class SilentAgent:
    """A host, and its agent's socket for ports, which answers nothing."""

    name = "host1"

    def __init__(self, directory: Path) -> None:
        self.agent = SimpleNamespace(directory=str(directory))
        self.transport = self
        #: A client's request has arrived; its connection is closed.
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def link(self) -> Any:
        return self

    async def wait_closed(self) -> str:
        return await asyncio.get_running_loop().create_future()

    async def open(self, path: str, factory: Any) -> Any:
        return (await asyncio.get_running_loop().create_unix_connection(factory, path))[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        self.asked.set()
        await reader.read()
        self.left.set()
        writer.close()


def test_it_is_closed_before_the_agent_has_answered(tmp_path: Path) -> None:
    """Nothing goes on, and nothing is said."""
    errors: list[Exception] = []
    said: list[Any] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        agent: Any = SilentAgent(tmp_path)
        server = await asyncio.start_unix_server(agent.serve, tmp_path / PORT_SOCKET)
        port = LocalPort(lambda: agent, "k", 80, errors.append)
        _, client = await asyncio.open_connection("127.0.0.1", await port.listen(0))
        await agent.asked.wait()
        await port.close()
        await agent.left.wait()
        client.close()
        server.close()

    asyncio.run(asyncio.wait_for(body(), 20))
    assert (errors, said) == ([], [])
