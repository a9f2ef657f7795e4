"""What a process that was forked from a killed one does not hold on to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from remote_provisioners.kernels.socket_directory import SocketDirectory
from remote_provisioners.server.records import Records

from .test_records import LOG, record

PARENT = """
import os, sys, time
from pathlib import Path
from remote_provisioners.kernels.socket_directory import SocketDirectory
from tests.unit.test_records import LOG, record
from remote_provisioners.server.records import Records

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
