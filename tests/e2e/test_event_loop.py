"""The hosting application's event loop: what of ours runs on it, and for how long.

How late a loop is depends on all that this machine does (benchmarks/ have that figure); what is
ours is the processor time of each step that our methods take on it.
"""

from __future__ import annotations

import asyncio
import inspect
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from remote_provisioners.contract import RemoteProvisioner
from remote_provisioners.placement.policies import load_balancers
from remote_provisioners.provisioner import DistributedProvisioner

from ..conftest import InstallSpec, Start
from ..rig import Rig
from ..waiting_calls import watch

KERNELS = 6
MEGABYTES = 20
PRINTER = f"""
for _ in range({MEGABYTES}):
    print("x" * 999_999, flush=True)
"""
MOST_SECONDS = 0.005


class Steps:
    """The steps of coroutines on one loop: seconds of processor time, and of the clock."""

    def __init__(self) -> None:
        self.cpu: dict[str, list[float]] = {}
        self.wall: list[float] = []

    def timed(
        self, name: str, function: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """`function`, each of whose steps is measured."""

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await _Stepped(function(*args, **kwargs), lambda step: self._do(name, step))

        return wrapper

    def constructing(self, function: Callable[..., None]) -> Callable[..., None]:
        def wrapper(*args: Any, **kwargs: Any) -> None:
            self._do("__init__", lambda: function(*args, **kwargs))

        return wrapper

    def _do(self, name: str, step: Callable[[], Any]) -> Any:
        cpu, wall = time.thread_time(), time.perf_counter()
        try:
            return step()
        finally:
            self.cpu.setdefault(name, []).append(time.thread_time() - cpu)
            self.wall.append(time.perf_counter() - wall)


class _Stepped:
    """Awaits a coroutine, each step through `do`."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], do: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._coroutine = coroutine
        self._do = do

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            try:
                awaited = self._do(step)
            except StopIteration as over:
                return over.value
            try:
                value = yield awaited
                step = lambda value=value: self._coroutine.send(value)  # noqa: E731
            except BaseException as error:
                step = lambda error=error: self._coroutine.throw(error)  # noqa: E731


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Measures what of our contract's methods runs on the loop of its caller."""
    found = Steps()
    for name, function in list(vars(RemoteProvisioner).items()):
        if inspect.iscoroutinefunction(function) and not name.startswith("_"):
            monkeypatch.setattr(RemoteProvisioner, name, found.timed(name, function))
    constructor = found.constructing(DistributedProvisioner.__init__)
    monkeypatch.setattr(DistributedProvisioner, "__init__", constructor)
    return found


def test_the_loop_is_never_kept_waiting(
    rig: Rig, home: Any, install_spec: InstallSpec, steps: Steps
) -> None:
    load_balancers()  # looks through all that is installed, once a process
    install_spec([host.target for host in rig.hosts])
    asyncio.run(_use_an_application())
    assert len(steps.cpu["launch_kernel"]) >= 2 * KERNELS  # each waits once at least
    assert len(steps.cpu["poll"]) > KERNELS
    longest = {name: max(cpu) for name, cpu in steps.cpu.items()}
    assert {name: cpu for name, cpu in longest.items() if cpu >= MOST_SECONDS} == {}
    # What blocks without computing takes no processor time. (A single step may be kept from
    # running by other processes.)
    assert statistics.median(steps.wall) < MOST_SECONDS


async def _use_an_application() -> None:
    """A burst of starts, heavy output, and an end."""
    manager = AsyncMultiKernelManager(kernel_spec_manager=KernelSpecManager())
    try:
        starts = (manager.start_kernel(kernel_name="remote") for _ in range(KERNELS))
        ids = await asyncio.gather(*starts)
        kernel = manager.get_kernel(ids[0])
        client = kernel.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            request = client.execute(PRINTER)
            printed = 0
            while printed < MEGABYTES * 1_000_000:
                message = await client.get_iopub_msg(timeout=60)
                if message["parent_header"].get("msg_id") == request:
                    printed += len(message["content"].get("text", ""))
                assert await kernel.is_alive()
            await kernel.interrupt_kernel()
        finally:
            client.stop_channels()
        await manager.restart_kernel(ids[1])
    finally:
        await manager.shutdown_all(now=True)
        manager.context.destroy(linger=0)


def test_ssh_is_not_imported_on_the_loop() -> None:
    code = "import sys, remote_provisioners.provisioner; print('asyncssh' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_io_thread_waits_for_no_file(
    rig: Rig, home: Any, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apart from the sockets' own directory on this machine, and from starting `ssh -G`."""
    found: list[str] = []
    io_thread: set[str] = {"remote-provisioners"}
    watch(lambda: threading.current_thread().name in io_thread, found.append, monkeypatch.setattr)
    session = start(install_spec(rig.hosts[0].target))
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=30)
    session.manager.shutdown_kernel(now=True)
    allowed = ("client_sockets.py", "socket_directory.py", "launcher_reports.py", "'-G'")
    assert [each for each in found if not any(text in each for text in allowed)] == []
    assert any("client_sockets.py" in each for each in found)  # it is watched
