"""A page of a program on a host, passed on to a browser."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from remote_provisioners.server.ports.handlers import PortHandler


async def nothing(*_: object) -> None:
    pass


@contextlib.asynccontextmanager
async def silent_program(socket: Path) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """A program that never answers. The events: it has got a request; it has been left."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_unix_server(silent, socket):
        yield asked, left


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
        async with silent_program(tmp_path / "socket") as (asked, left):
            passing = asyncio.ensure_future(handler.http_get("kernel", "port", "1", "/events"))
            await asked.wait()
            handler.on_connection_close()
            await asyncio.gather(passing, left.wait())

    asyncio.run(asyncio.wait_for(use(), 5))


def handler_of(socket: Path, closed: list[tuple[int, str]]) -> PortHandler:
    """A handler with a browser's websocket to a program behind this socket."""
    handler = PortHandler.__new__(PortHandler)
    vars(handler).update(
        absolute_url=True,
        _port=1,
        unix_socket=str(socket),
        request=SimpleNamespace(path="/ws", query="", method="GET", body=b""),
        _find=nothing,
        _context=dict,
        _requested_subprotocols=None,
        proxy_request_headers=dict,
        close=lambda code=0, reason="": closed.append((code, reason)),
    )
    return handler


def test_a_browser_that_leaves_while_its_websocket_is_opened(tmp_path: Path) -> None:
    closed: list[tuple[int, str]] = []

    async def use() -> None:
        handler = handler_of(tmp_path / "socket", closed)
        async with silent_program(tmp_path / "socket") as (asked, left):
            opening = asyncio.ensure_future(handler.open("kernel", "port", "1", "/ws"))
            await asked.wait()
            handler.on_close()
            await asyncio.gather(opening, left.wait())

    asyncio.run(asyncio.wait_for(use(), 5))
    assert closed == [(1011, "port 1: the browser has left")]


def test_the_reason_of_a_closed_websocket_fits(tmp_path: Path) -> None:
    """A reason has at most 123 bytes (RFC 6455), whatever characters are in it."""
    closed: list[tuple[int, str]] = []
    asyncio.run(handler_of(tmp_path / ("\u00e4" * 60), closed).open("kernel", "port", "1", "/ws"))
    ((_, reason),) = closed
    assert reason.startswith("port 1: ")
    assert len(reason.encode()) <= 123
