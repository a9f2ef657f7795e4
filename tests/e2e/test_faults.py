"""Every fault at every phase of a kernel's life: the table is docs/faults.md.

A test makes one fault while seven kernels are each in a phase of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from remote_provisioners.errors import RemoteProvisionerError
from remote_provisioners.hosts.transport.by_asyncssh import connection as ssh_connection
from remote_provisioners.hosts.transport.ssh import login_errors
from remote_provisioners.io_thread import io_thread
from remote_provisioners.kernels.lifecycle import State
from remote_provisioners.protocol.agent_requests import GetStatus

from ..conftest import InstallSpec, be_client, kernel_of
from ..rig import Host, Rig, open_rig

SLOW_SHUTDOWN = "import atexit, time; atexit.register(time.sleep, 0.7)"
PRINTS = "import time\nfor n in range(150): print(n, flush=True); time.sleep(0.02)\nkept += 1"
WORKS = "import time; time.sleep(3); kept += 1"


@pytest.fixture(scope="module")
def own_rig() -> Iterator[Rig]:
    """Two hosts that all tests here break, and mend."""
    opened = open_rig(2)
    if not opened.faults:
        pytest.skip("needs root and network namespaces: hosts here have no faults to inject")
    with opened:
        yield opened


@pytest.fixture
def hosts(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    be_client(own_rig, monkeypatch)
    yield list(own_rig.hosts)
    for host in own_rig.hosts:
        host.power_on()
        host.start_sshd()
        host.link_up()
        host.heal()


@dataclass
class Subject:
    """A kernel in one phase, with a client."""

    manager: AsyncKernelManager
    client: AsyncKernelClient | None = None
    pid: int = 0
    #: What it was doing when the fault came.
    doing: asyncio.Task[Any] | None = None
    #: What that ended with.
    error: BaseException | None = None

    async def start(self) -> None:
        await self.manager.start_kernel()
        self.pid = self.kernel.pid
        self.connect()
        assert await self.value("kept") == 0

    def connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.execute("kept = 0")

    @property
    def kernel(self) -> Any:
        return kernel_of(self.manager.provisioner)

    async def value(self, expression: str, seconds: float = 40) -> int:
        """Of a kernel that may be busy, by a request that may be lost with its connection."""
        assert self.client is not None
        deadline = time.monotonic() + seconds
        while True:
            try:
                reply = await self.client.execute(
                    "", user_expressions={"v": expression}, reply=True, timeout=5
                )
                return int(reply["content"]["user_expressions"]["v"]["data"]["text/plain"])
            except (TimeoutError, KeyError):  # or its reply is lost with an agent
                assert time.monotonic() < deadline, f"no answer to {expression}"

    async def settled(self) -> None:
        """What it was doing is over, in one way or the other."""
        assert self.doing is not None
        (result,) = await asyncio.gather(self.doing, return_exceptions=True)
        assert result is None or isinstance(result, RemoteProvisionerError), repr(result)
        self.error = result

    async def close(self) -> None:
        if self.client is not None:
            self.client.stop_channels()
        if self.manager.has_kernel:
            await self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)  # which one that did not start has left


@dataclass
class Scene:
    """The kernels of one test by their phase; all but `before` are there, or under way."""

    host: Host
    name: str
    #: Of a kernelspec whose kernels take a second to listen, on TCP ports.
    slow_name: str
    subjects: dict[str, Subject] = field(default_factory=dict)

    async def prepare(self) -> None:
        for phase in ("before", "during", "idle", "busy", "printing", "shutdown", "restart"):
            name = self.slow_name if phase == "during" else self.name
            self.subjects[phase] = Subject(AsyncKernelManager(kernel_name=name))
        there = [self[p] for p in ("idle", "busy", "printing", "shutdown", "restart")]
        await asyncio.gather(*(subject.start() for subject in there))
        for phase, code in (("busy", WORKS), ("printing", PRINTS), ("shutdown", SLOW_SHUTDOWN)):
            self[phase].client.execute(code)
        await self["shutdown"].value("kept")
        self.do("shutdown", self["shutdown"].manager.shutdown_kernel())
        self.do("restart", self["restart"].manager.restart_kernel())
        self.do("during", self["during"].manager.start_kernel())
        await asyncio.sleep(0.2)

    def __getitem__(self, phase: str) -> Subject:
        return self.subjects[phase]

    def do(self, phase: str, what: Awaitable[Any]) -> None:
        self[phase].doing = asyncio.ensure_future(what)

    async def began(self) -> None:
        """The fault is there: what begins now begins before it is mended."""
        self.do("before", self["before"].manager.start_kernel())
        await asyncio.sleep(0.2)

    async def nothing_lost(self) -> None:
        """Those that ran are the same as ever; stops, starts and restarts are what was asked."""
        for phase, kept in (("idle", 0), ("busy", 1), ("printing", 1)):
            subject = self[phase]
            assert await subject.value("kept") == kept, phase
            assert subject.kernel.pid == subject.pid, phase
            assert await subject.manager.is_alive(), phase
        await self.others_done()

    async def others_done(self, may_die: bool = False) -> None:
        """No stop, start or restart is lost, and each can be made again where it was refused.

        `may_die`: of the fault itself, once they had started.
        """
        stopped = self["shutdown"]
        await stopped.settled()
        assert stopped.error is None
        assert not await stopped.manager.is_alive()
        await until(lambda: stopped.pid not in pids(self.host), 20)
        for phase in ("before", "during", "restart"):
            subject = self[phase]
            await subject.settled()
            died = may_die and subject.manager.has_kernel and subject.kernel.life.over
            if subject.error is not None or died:
                await subject.close()
                subject.manager = AsyncKernelManager(kernel_name=self.name)
                await subject.manager.start_kernel()
                subject.connect()
            elif subject.client is None:
                subject.connect()
            else:
                subject.client.execute("kept = 0")
            assert await subject.value("kept") == 0, phase
        if self["restart"].kernel.spec.name == self.host.target:
            assert self["restart"].pid not in pids(self.host)

    async def close(self) -> None:
        for subject in self.subjects.values():
            if subject.doing is not None:
                await asyncio.wait([subject.doing], timeout=20)
        await asyncio.gather(*(subject.close() for subject in self.subjects.values()))


@contextlib.asynccontextmanager
async def scene(host: Host, install_spec: InstallSpec, **options: Any) -> AsyncIterator[Scene]:
    slow = f"sleep 1; exec {sys.executable} -m ipykernel_launcher -f $0"
    opened = Scene(
        host,
        install_spec([host.target], **options),
        install_spec(
            [host.target], name="slow", argv=["sh", "-c", slow, "{connection_file}"], **options
        ),
    )
    try:
        await opened.prepare()
        yield opened
    finally:
        await opened.close()


def pids(host: Host) -> list[int]:
    return [process.pid for process in host.processes()]


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.05)


def kill_agent(host: Host) -> None:
    host.run(["pkill", "-9", "-f", "agent.pyz"])


def run(body: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(body, 180))


def test_agent_killed(hosts: list[Host], install_spec: InstallSpec) -> None:
    async def body() -> None:
        async with scene(hosts[0], install_spec) as found:
            kill_agent(hosts[0])
            await found.began()
            await found.nothing_lost()
            # What the successor has is whole: it signals them, and sees their end.
            idle = found["idle"]
            await idle.manager.restart_kernel(now=True)
            assert idle.kernel.pid != idle.pid
            idle.client.execute("kept = 5")
            assert await idle.value("kept") == 5

    run(body())


def test_kernel_killed(hosts: list[Host], install_spec: InstallSpec) -> None:
    async def body() -> None:
        async with scene(hosts[0], install_spec) as found:
            ran = [found[phase] for phase in ("idle", "busy", "printing")]
            doomed = [str(subject.pid) for subject in found.subjects.values() if subject.pid]
            hosts[0].run(["kill", "-9", *doomed], check=False)
            await found.began()
            for subject in ran:
                await until(lambda subject=subject: subject.kernel.life.over)
                assert subject.kernel.life.state is State.EXITED
                assert subject.kernel.life.exit_code == -9
                await subject.manager.restart_kernel(now=True)  # what a restarter does
                assert subject.kernel.spec.name == hosts[0].target
                subject.client.execute("kept = 3")
                assert await subject.value("kept") == 3
            await found.others_done(may_die=True)

    run(body())


@pytest.mark.parametrize("away", [5, pytest.param(60, marks=pytest.mark.long)])
def test_link_down(
    hosts: list[Host], install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch, away: float
) -> None:
    """A request that waits is answered within moments of the link's return."""
    monkeypatch.setattr(ssh_connection, "KEEPALIVE_SECONDS", away / 12)

    async def body() -> None:
        async with scene(hosts[0], install_spec) as found:
            hosts[0].link_down()
            await found.began()
            idle = found["idle"]
            assert idle.client is not None
            await asyncio.sleep(away - 1)
            asked = asyncio.ensure_future(idle.client.execute("kept", reply=True, timeout=60))
            await asyncio.sleep(1)
            assert idle.kernel.life.state is State.UNREACHABLE
            assert await idle.manager.is_alive()
            hosts[0].link_up()
            back = time.monotonic()
            await asked
            seconds = time.monotonic() - back
            print(f"answered {seconds:.2f} s after the link was back")
            assert seconds < 10  # 2, where nothing else runs
            await found.nothing_lost()

    run(body())


def test_link_down_for_good(
    hosts: list[Host], install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace they are dead, with the reason; starts and restarts go elsewhere."""
    monkeypatch.setattr(ssh_connection, "KEEPALIVE_SECONDS", 0.5)
    monkeypatch.setattr(login_errors, "CONNECT_SECONDS", 2.0)
    a, b = (host.target for host in hosts)

    async def body() -> None:
        async with scene(hosts[0], install_spec, network_grace=1.0) as found:
            found["idle"].manager.provisioner.remote_hosts = [a, b]
            hosts[0].link_down()
            await found.began()
            for phase in ("idle", "busy", "printing"):
                kernel = found[phase].kernel
                await until(lambda kernel=kernel: kernel.life.over, 40)
                assert kernel.life.state is State.LOST
                assert kernel.life.reason == "the host was unreachable for 1 s"
            moved = found["idle"]
            ports = moved.manager.ports
            await moved.manager.restart_kernel(now=True)
            assert moved.kernel.spec.name == b
            assert moved.manager.ports == ports
            moved.client.execute("kept = 4")
            assert await moved.value("kept") == 4
            hosts[0].link_up()
            # What turns out to live is ended: nobody is left to own it.
            for phase in ("idle", "busy", "printing"):
                await until(lambda pid=found[phase].pid: pid not in pids(hosts[0]), 30)
            await found.others_done(may_die=True)

    run(body())


def test_sshd_restarted(hosts: list[Host], install_spec: InstallSpec) -> None:
    async def body() -> None:
        async with scene(hosts[0], install_spec) as found:
            hosts[0].stop_sshd(sessions=True)
            await found.began()
            hosts[0].start_sshd()
            await found.nothing_lost()

    run(body())


def test_host_rebooted(hosts: list[Host], install_spec: InstallSpec) -> None:
    async def body() -> None:
        async with scene(hosts[0], install_spec) as found:
            hosts[0].power_off()
            await found.began()
            assert await found["idle"].manager.is_alive()
            hosts[0].power_on()
            for phase in ("idle", "busy", "printing"):
                kernel = found[phase].kernel
                await until(lambda kernel=kernel: kernel.life.over, 40)
                assert "the host was rebooted" in kernel.life.reason, phase
            await found.others_done(may_die=True)

    run(body())


def test_disk_full(hosts: list[Host], install_spec: InstallSpec) -> None:
    fill = ["sh", "-c", "dd if=/dev/zero of=/tmp/fill bs=4k 2>/dev/null || true"]
    hosts[0].small_tmp("4m")

    async def body() -> None:
        async with scene(hosts[0], install_spec) as found:
            hosts[0].run(fill)
            await found.began()
            await asyncio.sleep(0.5)
            hosts[0].run(["rm", "/tmp/fill"])
            await found.nothing_lost()

    try:
        run(body())
    finally:
        hosts[0].small_tmp("50%")


@pytest.mark.parametrize("days", [10, pytest.param(-10, marks=pytest.mark.long)])
def test_clock_jumps(
    hosts: list[Host], install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """The server's clock."""
    now = time.time

    async def body() -> None:
        async with scene(hosts[0], install_spec, network_grace=60) as found:
            monkeypatch.setattr(time, "time", lambda: now() + days * 86400)
            hosts[0].stop_sshd(sessions=True)  # waits and grace are under way as well
            await found.began()
            hosts[0].start_sshd()
            await found.nothing_lost()

    run(body())


CLOCKED = """#!/bin/sh
case "$*" in "-I -S "*)  # the agent: under the library ZeroMQ does not work
    for library in /usr/lib/*/faketime/libfaketimeMT.so.1; do export LD_PRELOAD=$library; done
    export FAKETIME_TIMESTAMP_FILE=/tmp/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
esac
exec {python} "$@"
"""


@pytest.mark.parametrize("days", [pytest.param(10, marks=pytest.mark.long), -10])
def test_clock_of_the_host_jumps(hosts: list[Host], install_spec: InstallSpec, days: int) -> None:
    """Hosts here share this machine's clock: their agent is told another time, not its kernels."""
    if shutil.which("faketime") is None:
        reason = "faketime is not installed (on Debian: faketime)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    host = hosts[0]
    python = "/tmp/clocked/python3"
    host.run(["mkdir", "-p", "/tmp/clocked"])
    host.run(["tee", python], stdin=CLOCKED.format(python=sys.executable))
    host.run(["chmod", "755", python])
    host.run(["tee", "/tmp/clock"], stdin="+0d")
    host.sshd_option(SetEnv="PATH=/tmp/clocked:/usr/bin:/bin")

    async def body() -> None:
        env = {"LD_PRELOAD": ""}
        async with scene(host, install_spec, lease=3600.0, env=env) as found:
            host.run(["tee", "/tmp/clock"], stdin=f"{days:+d}d")
            host.stop_sshd(sessions=True)  # leases run
            await found.began()
            host.start_sshd()
            await found.nothing_lost()
            late = found["before"].kernel
            report = await io_thread().call(late.host.request(GetStatus()))
            started = {kernel.kernel_id: kernel.started for kernel in report.kernels}
            assert abs(started[late.kernel_id] - time.time() - days * 86400) < 3600

    try:
        run(body())
    finally:
        host.sshd_option(SetEnv=None)
