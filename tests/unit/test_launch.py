"""What a start leaves when it ends at a bad moment. These tests play the agent."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import zmq
import zmq.asyncio

from benchmarks.simulation.starts import request
from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts.agent_channel import ChannelLostError
from remote_provisioners.hosts.machine import Machine
from remote_provisioners.kernels.client_sockets import ClientSockets
from remote_provisioners.kernels.lifecycle import State
from remote_provisioners.kernels.remote_kernel import RemoteKernel
from remote_provisioners.kernels.start.launcher_reports import LauncherReports
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.inventory import HostSpec
from remote_provisioners.protocol.agent_requests import ReportListening, Start
from remote_provisioners.protocol.answers import KernelDescription
from remote_provisioners.protocol.version import ACCEPTS


class ConnectedHost:
    """Starts every kernel. The kernel reports its endpoints at once."""

    connected, name, machine = True, "host1", Machine()

    def __init__(self, reports: LauncherReports, at_report: Callable[[], None]) -> None:
        self.ended: list[str] = []
        self._reports, self._at_report = reports, at_report

    async def link(self) -> Any:
        return SimpleNamespace(channel=self, agent=SimpleNamespace(protocol=ACCEPTS))

    async def expose(self, path: str) -> str:
        return path

    async def request(self, request: Any) -> Any:
        if isinstance(request, Start):
            expected = self._reports._expected[request.kernel_id]
            expected.reported.set_result({"transport": "tcp"})
            return KernelDescription(kernel_id=request.kernel_id, pid=7)
        assert isinstance(request, ReportListening)
        return self._at_report()

    async def open_link(self, factory: Any) -> Any:
        raise UnreachableError("it has no streams")

    async def end(self, kernel: RemoteKernel, ended: bool = False) -> None:
        self.ended.append(kernel.kernel_id)

    async def last_lines(self, kernel_id: str) -> str:
        return ""

    def remember(self, kernel: RemoteKernel) -> None:
        pass

    started = remember


def launched(at_report: Callable[[RemoteKernel], None]) -> tuple[RemoteKernel, list[str], Any]:
    """A start: the kernel, what was ended, and the error."""

    async def main(directory: Path) -> tuple[RemoteKernel, list[str], Any]:
        reports = LauncherReports(directory)
        host: Any = ConnectedHost(reports, lambda: at_report(kernel))
        asked = replace(request(), reports_endpoints=True, resource_dir=None)
        sockets = ClientSockets(directory, "k", asked.kernel_id, host.open_link, 1.0)
        kernel = RemoteKernel(
            asked.kernel_id, HostSpec("host1", HostAddress("host1")), host, sockets, 1.0
        )
        try:
            await kernel.launch(asked, reports)
        except Exception as error:
            return kernel, host.ended, error
        else:
            return kernel, host.ended, None
        finally:
            sockets.close()
            await reports.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        return asyncio.run(main(Path(name)))


def test_a_connection_lost_when_the_kernel_listens() -> None:
    """The start fails, so the kernel is ended."""

    def lost(kernel: RemoteKernel) -> None:
        raise ChannelLostError("the connection is lost")

    kernel, ended, error = launched(lost)
    assert isinstance(error, UnreachableError)
    assert ended == [kernel.kernel_id]
    assert kernel.life.over


def test_a_connection_lost_right_after_the_kernel_listens() -> None:
    """The start has succeeded: the kernel is there when the host is back."""
    kernel, ended, error = launched(lambda kernel: kernel.on_disconnected())
    assert error is None
    assert ended == []
    assert kernel.life.state is State.UNREACHABLE


def test_a_launcher_that_waits_for_a_start_that_failed() -> None:
    async def main(directory: Path) -> None:
        reports = LauncherReports(directory)
        expected = reports.expect("k1")
        public, secret = zmq.curve_keypair()
        context = zmq.asyncio.Context()
        client = context.socket(zmq.REQ)
        client.curve_publickey, client.curve_secretkey = public, secret
        client.curve_serverkey = reports.public_key.encode()
        client.connect(f"ipc://{reports.path}")
        before = asyncio.all_tasks()
        asked = {"kernel_id": "k1", "secret": expected.secret, "event": "launched"}
        await client.send(json.dumps(asked).encode())
        while not asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
        reports.forget("k1")
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
        client.close(linger=0)
        context.term()
        await reports.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        asyncio.run(asyncio.wait_for(main(Path(name)), 5))
