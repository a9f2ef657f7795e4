"""Reach a pod with the API's exec. A web socket carries the pipe to a Python process there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import Any

from ...errors import AuthenticationError, NodeGoneError, UnreachableError
from ...hosts.transport.command import pipe_python
from ...hosts.transport.pipe.errors import why_not_opened
from ...hosts.transport.pipe.start import Introduction, NotOpened, PipeStart
from ...hosts.transport.pipe.transport import PipeTransport
from ...placement.way_in import COMMAND, WayIn
from .address import PodAddress
from .cluster import Access, Cluster, cluster_of
from .ends import why_ended
from .refused import RefusedError

_OPEN_SECONDS = 20.0
_CLOSE_SECONDS = 2.0
#: The pause between two attempts to open a pipe early: at least this, and a share of the wait.
_EARLY_SECONDS, _EARLY_SHARE = 0.05, 0.1
#: The channels of the exec subresource (v4.channel.k8s.io), which are a message's first byte.
_STDIN, _STDOUT, _STDERR, _ERROR = range(4)
_PIECE = 64 * 1024
#: Bytes that may wait here before the pipe pauses.
_MOST_WAITING = 1024 * 1024


async def connect_pod(address: PodAddress, python: str) -> PipeTransport:
    """A pipe into the pod. Raises HostError, or NodeGoneError if the pod has ended.

    An API server that has just started forbids everything for a moment. Unlike sshd, it locks out
    nobody who asks again. So this raises UnreachableError, not AuthenticationError.
    """
    try:
        return await _connected(address, python)
    except AuthenticationError as error:
        raise UnreachableError(error.message, host=str(address)) from None


async def open_early(cluster: Cluster, address: PodAddress, python: str) -> None:
    """Open the pipe of a pod that has a node, as soon as its container runs.

    The API reports that up to a second later. The next `connect_pod` gets the pipe. Raises
    HostError, NotOpened.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            pipe = await _opened(cluster, address, pipe_python(python))
        except RefusedError:  # there is no container yet
            waited = loop.time() - began
            await asyncio.sleep(max(_EARLY_SECONDS, waited * _EARLY_SHARE))
        else:
            cluster.keep_pipe(address.namespace, address.host, pipe)
            return


async def _connected(address: PodAddress, python: str) -> PipeTransport:
    cluster = await cluster_of(Access(address.kubeconfig, address.context))
    name = str(address)
    if early := cluster.take_pipe(address.namespace, address.host):
        return early
    try:
        return await _opened(cluster, address, pipe_python(python))
    except (NotOpened, RefusedError) as failed:
        end = await why_ended(cluster, address.namespace, address.host)
        if end:
            raise NodeGoneError(f"the pod has ended: {end}") from None
        if isinstance(failed, RefusedError):
            text = f"Kubernetes refuses to run a program in the pod: {failed.message}"
            raise UnreachableError(text, host=name) from None
        way = WayIn(COMMAND, ("kubectl", "exec", "-n", address.namespace, address.host))
        raise why_not_opened(failed, way, python).at(name) from None


async def _opened(cluster: Cluster, address: PodAddress, python: str) -> PipeTransport:
    """Raises NotOpened, RefusedError, HostError. Leaves nothing when it fails or is cancelled."""
    introduction = Introduction(python)
    socket = await cluster.exec(
        address.namespace, address.host, address.container, introduction.argv
    )
    start = PipeStart(introduction)
    SocketCarrier(socket, start)
    return await start.within(_OPEN_SECONDS)


class SocketCarrier:
    """Carries a pipe over a web socket. Reports to a PipeStart."""

    def __init__(self, socket: Any, start: PipeStart) -> None:
        self._socket = socket
        self._start = start
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._paused = self._closing = self._ended = False
        self._filled = asyncio.Event()
        self._returncode: int | None = None
        start.begin(self)
        self._reader = asyncio.ensure_future(self._read())
        self._writer = asyncio.ensure_future(self._write())

    # -- Carrier ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._closing or self._ended:
            return
        for begin in range(0, len(data), _PIECE):
            self._waiting.append(bytes([_STDIN]) + data[begin : begin + _PIECE])
        self._size += len(data)
        self._filled.set()
        if self._size > _MOST_WAITING and not self._paused:
            self._paused = True
            self._start.pause_writing()

    def close(self) -> None:
        self._closing = True
        self._filled.set()

    def abort(self) -> None:
        if not self._ended:
            self._finish()

    # -- its two directions -----------------------------------------------------------------

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            async for message in self._socket:
                data = message.data
                if isinstance(data, str):
                    data = data.encode()
                if not isinstance(data, bytes) or not data:
                    continue
                if data[0] == _STDOUT:
                    self._start.data_received(data[1:])
                elif data[0] == _STDERR:
                    self._start.errors_received(data[1:])
                elif data[0] == _ERROR:
                    self._returncode = _status(data[1:], self._start)
                if self._ended:
                    return
        self._finish()

    async def _write(self) -> None:
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._waiting:
                    piece = self._waiting.popleft()
                    await self._socket.send_bytes(piece)
                    self._size -= len(piece) - 1
                if self._paused and not self._closing:
                    self._paused = False
                    self._start.resume_writing()
                if self._closing:
                    await asyncio.wait_for(self._socket.close(), _CLOSE_SECONDS)
                    break
        except (OSError, RuntimeError, asyncio.TimeoutError):
            pass
        except Exception as error:
            if not type(error).__module__.startswith("aiohttp"):
                raise
        self._finish()

    def _finish(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._waiting.clear()
        for task in (self._reader, self._writer):
            if task is not asyncio.current_task():
                task.cancel()
        if not self._socket.closed:
            closing = asyncio.ensure_future(self._socket.close())
            closing.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._start.ended(self._returncode)


def _status(data: bytes, start: PipeStart) -> int | None:
    """The exit code in the API's last message about a program. Its text counts as stderr."""
    try:
        status = json.loads(data)
        if status.get("status") == "Success":
            return 0
        start.errors_received(str(status.get("message", "")).encode() + b"\n")
        causes = (status.get("details") or {}).get("causes") or []
        codes = [int(c["message"]) for c in causes if c.get("reason") == "ExitCode"]
        return codes[0] if codes else None
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
