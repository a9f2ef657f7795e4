"""A connection to a launcher that we give up, or that leads to another program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from remote_provisioners.engines.node_transport import _Opening
from remote_provisioners.errors import UnreachableError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def opened(serve: Serve) -> tuple[asyncio.Server, _Opening]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    _, opening = await loop.create_connection(_Opening, "127.0.0.1", port)
    return server, opening


def test_a_connection_that_we_give_up_is_closed() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.read() == b""
            ended.set()
            writer.close()

        server, opening = await opened(says_nothing)
        waiting = asyncio.ensure_future(opening.answer())
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait_for(ended.wait(), 5)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_program_that_never_ends_its_line_is_refused() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def says_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(1024 * 1024))
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            ended.set()

        server, opening = await opened(says_much)
        with pytest.raises(UnreachableError, match="its launcher does not answer"):
            await opening.answer()
        await ended.wait()
        server.close()

    asyncio.run(main())
