"""A TCP relay with a delay, and with faults of the way rather than of the host."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType

CHUNK = 1 << 16
ON_THE_WAY = 256  # chunks: bounds memory, and throughput only to CHUNK * ON_THE_WAY / delay


class Relay:
    """Listens on ``address``, ``port`` while the context is open, in a thread with a loop.

    The delay is that of data, each way; TCP's own handshake is with the relay and takes none.
    """

    def __init__(
        self, upstream: tuple[str, int], delay_s: float = 0.0, name: str = "relay"
    ) -> None:
        self.upstream = upstream
        self.delay_s = delay_s
        """May change while connections are open: for what comes in from then on."""
        self.target = name
        # Bound but never listening, it reserves the port while connections are refused.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self.address: str
        self.port: int
        self.address, self.port = self._reservation.getsockname()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __repr__(self) -> str:
        state = "open" if self._server else "refusing"
        return f"<Relay {self.address}:{self.port} -> {self.upstream} {self.delay_s}s {state}>"

    def __enter__(self) -> Relay:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reservation.close()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def accept(self) -> None:
        """Take connections: the state at the start."""
        self._call(self._accept())

    def refuse(self) -> None:
        """Refuse new connections; those that exist live on."""
        self._call(self._refuse())

    def cut(self) -> None:
        """Reset every connection, towards both ends, and forget what is on the way."""
        self._call(self._cut())

    def _call(self, action: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(timeout=10)

    # -- in the thread -----------------------------------------------------------------------

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, self.address, self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # Here, as a task that is cancelled before its first step never runs its ``finally``.
        task.add_done_callback(lambda _: _reset(writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # one end is gone or not there: the other will be reset
            up_reader, up_writer = await asyncio.open_connection(*self.upstream)
            try:
                await _both(self._pump(reader, up_writer), self._pump(up_reader, writer))
                for each in (writer, up_writer):  # all is said: an end in good order
                    each.close()
                    await each.wait_closed()
            finally:
                _reset(up_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction, its end included; each piece arrives ``delay_s`` after it came."""
        loop = asyncio.get_running_loop()
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)

        async def enter() -> None:
            data = b"-"
            while data:
                data = await reader.read(CHUNK)
                await way.put((loop.time() + self.delay_s, data))

        async def leave() -> None:
            while True:
                due, data = await way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            with suppress(OSError):  # the other end may have closed both ways by now
                writer.write_eof()

        await _both(enter(), leave())


async def _both(*halves: Coroutine[None, None, None]) -> None:
    """Like gather(), but the failure of one ends the other as well."""
    tasks = [asyncio.ensure_future(half) for half in halves]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN; does nothing to a connection that is closed."""
    transport = writer.transport
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        linger = b"\1\0\0\0\0\0\0\0"  # struct linger: on, for no time
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
