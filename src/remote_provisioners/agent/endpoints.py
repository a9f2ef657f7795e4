"""Where a kernel listens: choosing its endpoints and noticing that they are open.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import socket
import struct
from typing import Any, Dict, List, Optional, Sequence, Union

from ..protocol.conventions import CHANNELS

#: A unix socket's path, or a TCP port of the loopback interface.
Endpoint = Union[str, int]

_IN_CREATE = 0x100
_POLL_SECONDS = 0.01


def ipc_prefix(directory: str) -> str:
    """What a connection file calls the ip of ipc, of a kernel in `directory`."""
    return os.path.join(directory, "k")


def connection_file(directory: str) -> str:
    """Where a kernel in `directory` finds its endpoints."""
    return os.path.join(directory, "connection.json")


def write_connection(directory: str, connection: Dict[str, Any]) -> None:
    """Write the connection file of a kernel in `directory`, for its user only."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    with open(os.open(connection_file(directory), flags, 0o600), "wb") as written:
        written.write(json.dumps(connection).encode())


class PortsTakenError(Exception):
    """No free port is left in the range."""


def endpoints_of(connection: Dict[str, Any]) -> Dict[str, Endpoint]:
    """Each channel's endpoint, from a connection file's content."""
    ports = {channel: int(connection[channel + "_port"]) for channel in CHANNELS}
    if connection["transport"] == "ipc":
        return {channel: "{}-{}".format(connection["ip"], n) for channel, n in ports.items()}
    return dict(ports)


class PortReservation:
    """Loopback ports that nobody else is given until the kernel has bound them.

    Each is bound here without listening, with SO_REUSEADDR: the kernel's own bind succeeds next
    to it (libzmq sets the option too), while everybody else's search for a free port passes by.
    It is kept for as long as the kernel may come back to these ports.
    """

    def __init__(self, count: int, lower: int = 0, upper: int = 0) -> None:
        """Reserve `count` ports within lower..upper (0..0: any). Raises PortsTakenError."""
        self._sockets: List[socket.socket] = []
        candidates = [0] * count
        if upper > lower:
            candidates = random.sample(range(lower, upper + 1), upper - lower + 1)
        for port in candidates:
            if len(self._sockets) == count:
                break
            reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                if port:  # a port of the range may be in use by somebody without our option
                    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    with probe:
                        probe.bind(("127.0.0.1", port))
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reserved.bind(("127.0.0.1", port))
            except OSError:
                reserved.close()
                continue
            self._sockets.append(reserved)
        if len(self._sockets) < count:
            self.close()
            raise PortsTakenError(
                "fewer than {} ports of {}..{} are free".format(count, lower, upper)
            )
        self.ports: List[int] = [s.getsockname()[1] for s in self._sockets]

    @classmethod
    def of(cls, ports: Sequence[int]) -> PortReservation:
        """The reservation of `ports` that an earlier agent had; see :meth:`renew`."""
        found = cls(0)
        found.ports = list(ports)
        found.renew()
        return found

    def renew(self) -> None:
        """Reserve what is not reserved. A port cannot be while somebody listens there: we see it
        free again when the kernel has ended.
        """
        held = {s.getsockname()[1] for s in self._sockets}
        for port in self.ports:
            if port not in held:
                reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    reserved.bind(("127.0.0.1", port))
                except OSError:
                    reserved.close()
                    continue
                self._sockets.append(reserved)

    def close(self) -> None:
        """Give the ports back."""
        for reserved in self._sockets:
            reserved.close()
        self._sockets = []


async def wait_until_open(endpoints: Sequence[Endpoint]) -> None:
    """Return once each endpoint accepts connections. Cancel it when the kernel has exited."""
    paths = [endpoint for endpoint in endpoints if isinstance(endpoint, str)]
    if paths:
        await _wait_until_exist(paths)
    for endpoint in endpoints:
        # A socket file exists a moment before its owner listens; a port has no file to watch.
        while not _accepts(endpoint):
            await asyncio.sleep(0.001 if isinstance(endpoint, str) else _POLL_SECONDS)


async def _wait_until_exist(paths: Sequence[str]) -> None:
    directories = sorted({os.path.dirname(path) for path in paths})
    watch = _watch(directories)
    try:
        while not all(os.path.exists(path) for path in paths):
            if watch is None:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                await _readable(watch)
                os.read(watch, 65536)
    finally:
        if watch is not None:
            os.close(watch)


def _watch(directories: Sequence[str]) -> Optional[int]:
    """An inotify descriptor that becomes readable when a file is created in the directories."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None  # not Linux: poll
    if descriptor < 0:
        return None
    for directory in directories:
        if libc.inotify_add_watch(descriptor, os.fsencode(directory), _IN_CREATE) < 0:
            os.close(descriptor)
            return None
    return descriptor


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _accepts(endpoint: Endpoint) -> bool:
    family = socket.AF_UNIX if isinstance(endpoint, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A connect that may not block at all is never done at once, not even on loopback.
        probe.settimeout(0.05 if family == socket.AF_INET else 0)
        if family == socket.AF_INET:
            # Reset instead of FIN: the kernel's peer list never shows the probe as a client.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        address = endpoint if isinstance(endpoint, str) else ("127.0.0.1", endpoint)
        try:
            probe.connect(address)
        except BlockingIOError:
            return False  # the backlog is full: look again
        except OSError:
            return False
        return True
