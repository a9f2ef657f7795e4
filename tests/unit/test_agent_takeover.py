"""What an agent that was killed has left, looked at while the next one is short of descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.agent.channels.endpoints import PortReservation
from remote_provisioners.agent.kernels import kernel_record as record
from remote_provisioners.agent.kernels.hosted_kernel import HostedKernel
from remote_provisioners.agent.kernels.takeover import Takeover
from remote_provisioners.agent.machine.gpus import Gpus
from remote_provisioners.agent.processes.kernel_process import Command, KernelProcess
from remote_provisioners.agent.processes.process_identity import boot_id, start_time


@contextlib.contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Let this process open so many more files, and no others."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    held = [os.open("/dev/null", os.O_RDONLY)]
    while held[-1] <= highest:  # no number is left below it
        held.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1 + number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)


@pytest.fixture
def left(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The kernel of a killed agent, with its record."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    directory = HostedKernel("k1", "a", str(tmp_path)).directory
    os.mkdir(directory, 0o700)
    written = {
        "kernel_id": "k1",
        "owner": "a",
        "pid": process.pid,
        "start_time": start_time(process.pid),
        "boot_id": boot_id(),
        "started": time.time(),
        "cwd": "/",
        "connection": {},
        "listening": True,
        "reports_endpoints": True,
        "gpus": ["0"],
        "ports": [],
        "exit_code": None,
        "lease": 60.0,
        "ended_by": "",
        "output": {},
    }
    record.write(directory, written)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [0, 1])
def test_what_cannot_be_read_now_is_read_later(
    tmp_path: Path, left: subprocess.Popen[bytes], number: int
) -> None:
    """None for the directory, or none for what tells of the process."""

    async def body() -> None:
        takeover, gpus = Takeover(str(tmp_path)), Gpus(str(tmp_path), "agent")
        with descriptors_left(number):
            assert takeover.look() == []
        assert not takeover.over
        assert takeover.error.endswith("Too many open files")
        assert left.poll() is None
        (kernel,) = takeover.look()
        assert takeover.over
        assert kernel.running
        with descriptors_left(0):
            kernel.keep_gpus(gpus)
        assert kernel.process is not None
        assert kernel.process.signal(signal.SIGKILL)
        left.wait()
        assert kernel.process.reap() is not None

    asyncio.run(body())


def test_a_process_that_cannot_be_looked_at_counts_as_running(
    tmp_path: Path, left: subprocess.Popen[bytes]
) -> None:
    async def body() -> None:
        (kernel,) = Takeover(str(tmp_path)).look()
        assert kernel.process is not None
        with descriptors_left(0):
            assert kernel.process.reap() is None
            assert kernel.process.signal(signal.SIGKILL)
            left.wait()
            assert kernel.process.reap() is None  # what it has left behind is to be ended as well
        assert kernel.process.reap() is not None

    asyncio.run(body())


def test_an_end_is_not_missed_while_its_record_cannot_be_made(tmp_path: Path) -> None:
    async def body() -> None:
        kernel = HostedKernel("k1", "a", str(tmp_path))
        os.mkdir(kernel.directory, 0o700)
        command = Command(["true"], {}, "/", str(tmp_path / "output"))
        kernel.process = KernelProcess.spawn(command)
        ports = PortReservation(1)
        ports.close()
        os.waitid(os.P_PID, kernel.process.pid, os.WEXITED | os.WNOWAIT)
        with descriptors_left(0):
            assert kernel.ended()
            ports.renew()  # as those of a kernel without unix sockets
        assert not kernel.saved
        kernel.save()  # as the agent does again and again
        await kernel.files_done()
        assert kernel.saved
        assert record.read(kernel.directory)["exit_code"] == 0

    asyncio.run(body())
