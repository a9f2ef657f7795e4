"""Where a kernel listens: choosing its endpoints.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
import os
import random
import socket
from typing import Any, Dict, List, Sequence, Union

from ...protocol.conventions import CHANNELS

#: A kernel that listens on these is ready. Some kernels bind stdin only when they need input.
_READY_CHANNELS = ("shell", "iopub", "control", "hb")

#: Between "ip" and "port" of a unix socket, jupyter_client and most kernels have "-". Some kernels
#: join them as for TCP: IJulia binds transport://ip:port.
_OTHER_SEPARATOR = ":"

#: A unix socket's path, or a TCP port of the loopback interface.
Endpoint = Union[str, int]


def ipc_prefix(directory: str) -> str:
    """The "ip" in the connection file of an ipc kernel in `directory`."""
    return os.path.join(directory, "k")


def connection_file(directory: str) -> str:
    """The path of the connection file of a kernel in `directory`."""
    return os.path.join(directory, "connection.json")


def write_connection(directory: str, connection: Dict[str, Any]) -> None:
    """Write the connection file of a kernel in `directory`, readable only by its user."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    with open(os.open(connection_file(directory), flags, 0o600), "wb") as written:
        written.write(json.dumps(connection).encode())


class PortsTakenError(Exception):
    """No free port is left in the range."""


def endpoints_of(connection: Dict[str, Any]) -> Dict[str, Endpoint]:
    """Each channel's endpoint, from a connection file's content."""
    ports = {channel: int(connection[channel + "_port"]) for channel in CHANNELS}
    if connection["transport"] == "ipc":
        separator = connection.get("separator", "-")
        ip = connection["ip"]
        return {channel: "{}{}{}".format(ip, separator, n) for channel, n in ports.items()}
    return dict(ports)


def forms_of(connection: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The connection in the forms in which a kernel may listen."""
    if connection["transport"] != "ipc":
        return [connection]
    return [connection, {**connection, "separator": _OTHER_SEPARATOR}]


def remove_sockets(connection: Dict[str, Any]) -> None:
    """Remove the socket files of an earlier start. Raises OSError."""
    for form in forms_of(connection):
        for endpoint in endpoints_of(form).values():
            if os.path.lexists(str(endpoint)):
                os.unlink(str(endpoint))


def ready_endpoints(connection: Dict[str, Any]) -> List[Endpoint]:
    """The endpoints on which a started kernel listens."""
    endpoints = endpoints_of(connection)
    return [endpoints[channel] for channel in _READY_CHANNELS]


class PortReservation:
    """Loopback ports that no other program gets until the kernel has bound them.

    We bind each port without listening, with SO_REUSEADDR. The kernel's own bind still succeeds
    (libzmq sets the option too), while other programs that look for a free port get another one.
    We keep the reservation for as long as a restart of the kernel may use these ports.
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
                if port:  # a program without SO_REUSEADDR may use this port of the range
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
        """Reserve `ports` again, which an earlier agent had reserved; see :meth:`renew`."""
        found = cls(0)
        found.ports = list(ports)
        found.renew()
        return found

    def renew(self) -> None:
        """Reserve the ports that are not reserved. That fails for a port while the kernel listens
        there, so this is called again when the kernel has ended.
        """
        held = {s.getsockname()[1] for s in self._sockets}
        for port in self.ports:
            if port not in held:
                try:
                    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                except OSError:  # no descriptor is free
                    return
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
