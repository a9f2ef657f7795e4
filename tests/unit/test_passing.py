"""A page of a program on a host, passed on to a browser."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from remote_provisioners.server.ports.handlers import PortHandler


async def nothing(*_: object) -> None:
    pass


def test_the_program_is_left_when_the_browser_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = PortHandler.__new__(PortHandler)
    vars(handler).update(
        ws_connection=None,
        _on_close_called=True,
        absolute_url=True,
        _port=1,
        unix_socket=str(tmp_path / "socket"),
        request=SimpleNamespace(path="/events", query="", method="GET", body=b""),
        _find=nothing,
        _record_activity=lambda: None,
        proxy_request_headers=dict,
    )

    async def use() -> None:
        asked, left = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await reader.read()
            left.set()
            writer.close()

        async with await asyncio.start_unix_server(silent, tmp_path / "socket"):
            passing = asyncio.ensure_future(handler._pass_on("kernel", "port", "1", "/events"))
            await asked.wait()
            handler.on_connection_close()
            await asyncio.gather(passing, left.wait())

    asyncio.run(asyncio.wait_for(use(), 5))
