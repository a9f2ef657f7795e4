"""The agent's socket for files, when its user may start no more threads."""

from __future__ import annotations

import asyncio
import tempfile
import threading

import pytest

from remote_provisioners.agent.files.file_server import FileServer
from remote_provisioners.protocol.files import FILE_SOCKET


def test_a_connection_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent closes this connection, and serves the next one."""
    start, refused = threading.Thread.start, []

    def starting(thread: threading.Thread) -> None:
        if not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main(directory: str) -> None:
        server, before = FileServer(directory), threading.active_count()
        server.listen()
        monkeypatch.setattr(threading.Thread, "start", starting)
        reader, writer = await asyncio.open_unix_connection(f"{directory}/{FILE_SOCKET}")
        assert await reader.read() == b""
        writer.close()
        _, writer = await asyncio.open_unix_connection(f"{directory}/{FILE_SOCKET}")
        while threading.active_count() == before:
            await asyncio.sleep(0.01)
        writer.close()
        while threading.active_count() > before:
            await asyncio.sleep(0.01)
        server.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        asyncio.run(asyncio.wait_for(main(directory), 10))
