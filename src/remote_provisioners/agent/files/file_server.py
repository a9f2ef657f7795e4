"""The socket at which servers work with files.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Optional, Set

from ...protocol.files import FILE_SOCKET
from ..background import Background
from ..private_socket import bind_anew, same_user

_BACKLOG = 64
#: More connections wait until one ends. Each has a thread.
_MOST = 32


class FileServer:
    """Gives each connection to a thread."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE_SOCKET)
        self._listener: Optional[socket.socket] = None
        self._connections: Set[socket.socket] = set()
        self._background = Background()
        self._room = asyncio.Semaphore(_MOST)

    def listen(self) -> None:
        listener = bind_anew(self._path)
        listener.setblocking(False)
        listener.listen(_BACKLOG)
        self._listener = listener
        self._background.run(self._accept(listener), "connections to files")

    def close(self) -> None:
        self._background.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has just ended

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is free
                self._room.release()
                await asyncio.sleep(1)
                continue
            if not same_user(connection):
                connection.close()
                self._room.release()
                continue
            connection.setblocking(True)
            serve = threading.Thread(target=self._serve, args=(connection, loop), daemon=True)
            self._connections.add(connection)
            try:
                serve.start()
            except RuntimeError:  # the user may start no more threads (ulimit -u)
                connection.close()
                self._ended(connection)
                await asyncio.sleep(1)

    def _serve(self, connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        from .session import Session  # noqa: PLC0415 - agents without files start sooner

        try:
            Session(connection).serve()
        finally:
            try:
                loop.call_soon_threadsafe(self._ended, connection)
            except RuntimeError:
                pass  # the agent has ended

    def _ended(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        self._room.release()
