"""What a process that was forked from a killed one does not hold on to."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from remote_provisioners.io_thread import io_thread
from remote_provisioners.kernels.socket_directory import SocketDirectory
from remote_provisioners.server.restore.records import Records

from ..conftest import eventually
from .test_records import LOG, record

PARENT = """
import os, sys, time
from pathlib import Path
from remote_provisioners.kernels.socket_directory import SocketDirectory
from tests.unit.test_records import LOG, record
from remote_provisioners.server.restore.records import Records

records, sockets = Records(Path(sys.argv[1]), LOG), SocketDirectory()
records.write(record())
if child := os.fork():
    print(child, sockets.path, flush=True)
time.sleep(60)
"""


def test_a_worker_of_a_killed_server_holds_no_lock(tmp_path: Path) -> None:
    parent = tmp_path / "records"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(parent)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as server:
        assert server.stdout is not None
        child, path = server.stdout.readline().split()
        try:
            server.kill()
            server.wait()
            records = Records(parent, LOG)
            assert [each.kernel_id for each in records.adopt("/here")] == [record().kernel_id]
            records.close()
            sockets = SocketDirectory()
            assert not Path(path).exists()
            sockets.remove()
        finally:
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_keeps_files_that_have_the_number_of_a_closed_connection() -> None:
    async def opened_and_closed() -> tuple[asyncio.BaseTransport, int]:
        ours, theirs = socket.socketpair()
        with theirs:
            number = ours.fileno()
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.close()
            await asyncio.sleep(0)
        return transport, number

    _kept, number = io_thread().call_blocking(opened_and_closed(), 10)
    eventually(lambda: not os.path.exists(f"/proc/self/fd/{number}"))
    ends = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD, 200) for end in ends)
    for end in ends:
        os.close(end)
    os.dup2(writer, number)
    if not (child := os.fork()):
        os.write(number, b"+")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    os.close(number)
    assert os.read(reader, 1) == b"+"
    os.close(reader)
