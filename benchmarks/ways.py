"""Ways in beside each other, without kernels: connecting, round trips, output, the server's CPU.

    python -m benchmarks.ways

Prints a table. Each way is measured in each round; the best of the rounds counts, for a busy
machine only adds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from dataclasses import dataclass

from remote_provisioners.hosts.transport import Transport, connect
from remote_provisioners.options.config import RemoteProvisionerConfigMixin
from tests.rig import open_rig

ROUNDS = 4
ROUND_TRIPS = 400
MEGABYTES = 200
HERE = "this-machine"

SERVE = r"""
import os, socket, sys, threading
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
def serve(connection):
    while data := connection.recv(65536):
        if data[:1] != b"G":
            connection.sendall(data)
            continue
        left, piece = int(data[1:]), b"z" * 262144
        while left > 0:
            connection.sendall(piece[:left])
            left -= len(piece)
    os._exit(0)
if os.fork():
    os._exit(0)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
connection, _ = listener.accept()
os.unlink(sys.argv[1])
serve(connection)
"""


class Counter(asyncio.Protocol):
    """Counts what it receives."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = self._wanted = 0
        self._there: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._there is not None and self.received >= self._wanted and not self._there.done():
            self._there.set_result(None)

    async def ask(self, request: bytes, size: int) -> None:
        """Send, and return when so many bytes have come."""
        self._wanted = self.received + size
        self._there = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._there


@dataclass
class Figures:
    connect_ms: float
    round_trip_ms: float
    megabytes_s: float
    cpu_ms: float

    def best(self, other: Figures) -> Figures:
        return Figures(
            min(self.connect_ms, other.connect_ms),
            min(self.round_trip_ms, other.round_trip_ms),
            max(self.megabytes_s, other.megabytes_s),
            min(self.cpu_ms, other.cpu_ms),
        )


async def measure(way: str, host: str, number: int) -> Figures:
    """One way, once."""
    os.environ["RP_CONNECT"] = way
    address = RemoteProvisionerConfigMixin().host_spec(host).address
    began = time.perf_counter()
    transport = await connect(address, sys.executable)
    connected = time.perf_counter() - began
    try:
        return Figures(connected * 1000, *await _stream(transport, number))
    finally:
        await transport.close()


async def _stream(transport: Transport, number: int) -> tuple[float, float, float]:
    path = f"/tmp/ways-{os.getpid()}-{number}.sock"
    await transport.run([sys.executable, "-c", SERVE, path], b"")
    counter = await transport.open(path, Counter)
    assert isinstance(counter, Counter)
    times = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await counter.ask(b"x" * 200, 200)
        times.append(time.perf_counter() - began)
    size = MEGABYTES * 1024 * 1024
    began, used = time.perf_counter(), time.process_time()
    await counter.ask(b"G%d" % size, size)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    counter.transport.close()
    return statistics.median(times) * 1000, MEGABYTES / seconds, cpu * 1000 / MEGABYTES


async def main() -> None:
    with open_rig(1) as rig:
        os.environ.update(rig.environ)
        host = rig.hosts[0].target
        ways = {
            "this machine's sockets": ("asyncssh", "localhost"),
            "asyncssh": ("asyncssh", host),
            "openssh": ("openssh", host),
            "a bare subprocess": ('["env"]', HERE),
        }
        found: dict[str, Figures] = {}
        for number in range(ROUNDS):
            for index, (name, (way, target)) in enumerate(ways.items()):
                seen = await measure(way, target, number * 10 + index)
                found[name] = seen.best(found.get(name, seen))
    print("| way in | connect | round trip | output | the server's CPU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, seen in found.items():
        print(
            f"| {name} | {seen.connect_ms:.0f} ms | {seen.round_trip_ms:.3f} ms "
            f"| {seen.megabytes_s:.0f} MB/s | {seen.cpu_ms:.2f} ms/MB |"
        )


if __name__ == "__main__":
    asyncio.run(main())
