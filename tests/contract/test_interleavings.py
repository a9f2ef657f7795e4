"""Random interleavings against a real agent and real processes, bounded to well under a minute.

Servers are the wire protocol and nothing more. The model knows which processes have to run, and
whose they are; what is there is asked of the agent and of the operating system.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from remote_provisioners.hosts import deploy_agent as bootstrap
from remote_provisioners.hosts.transport.local import LocalTransport
from remote_provisioners.protocol.wire import Message

from ..conftest import share
from .test_agent import SLEEPS, Refused, Server, connect
from .test_takeover import running

SERVERS, KERNELS = st.sampled_from(["a", "b"]), st.sampled_from(["k1", "k2", "k3"])


@dataclass
class Expected:
    owner: str
    pid: int
    alive: bool = True


class RealInterleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.servers: dict[str, Server] = {}
        self.agent: int | None = None
        self.kernels: dict[str, Expected] = {}
        #: Marks the processes of this example in their environment.
        self.mark = secrets.token_hex(8)
        self.stranger = subprocess.Popen(SLEEPS, start_new_session=True)

    def wait(self, what: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, 20))

    async def server(self, name: str) -> Server:
        found = self.servers.get(name)
        if found is None or found.closed.done():
            found = await self._connect(name)
            self.compare(found.hello["kernels"], name)
        return found

    async def _connect(self, name: str) -> Server:
        while True:
            agent = await bootstrap.find_or_start_agent(LocalTransport(), sys.executable, "here")
            try:
                found = self.servers[name] = await connect(agent.socket, name)
            except ConnectionError:  # a killed agent still listened, until its last thread ended
                continue
            self.agent = found.hello["pid"]
            return found

    async def lose(self, name: str) -> None:
        server = self.servers.pop(name, None)
        if server is not None and not server.closed.done():
            server.transport.abort()
            await server.closed

    def compare(self, described: list[Message], owner: str = "") -> None:
        """No kernel is lost, none is anybody else's, none is there that should not be."""
        found = {k["kernel_id"]: (k["pid"], k["exit_code"] is None) for k in described}
        assert found == {
            name: (kernel.pid, kernel.alive)
            for name, kernel in self.kernels.items()
            if not owner or kernel.owner == owner
        }

    # -- events ------------------------------------------------------------------------------

    @rule(name=SERVERS, kernel=KERNELS)
    def start_or_restart(self, name: str, kernel: str) -> None:
        self.wait(self._start(name, kernel))

    async def _start(self, name: str, kernel: str) -> None:
        server, before = await self.server(name), self.kernels.get(kernel)
        # A launcher's kernel: it listens when its server says so, and keeps no turn.
        starting = server.start(
            kernel, SLEEPS, reports_endpoints=True, request_env={"MARK": self.mark}
        )
        if before is not None and before.owner != name:
            with contextlib.suppress(Refused):
                await starting
                raise AssertionError("it was another server's")
            return
        started = await starting
        await server.request("listening", kernel_id=kernel)
        self.kernels[kernel] = Expected(name, started["pid"])

    @rule(name=SERVERS, kernel=KERNELS, after=st.sampled_from([0, 0.003, 0.02]))
    def agent_dies_while_it_starts(self, name: str, kernel: str, after: float) -> None:
        """The start is lost with it, or not; what is asked again is done, once."""

        async def body() -> None:
            server, before = await self.server(name), self.kernels.get(kernel)
            if before is not None and before.owner != name:
                return
            task = server.begin(kernel, SLEEPS, reports_endpoints=True, request_env=self.env)
            await asyncio.sleep(after)
            await self._kill_agent()
            await asyncio.gather(task, return_exceptions=True)
            again = await self._connect(name)
            self.kernels.pop(kernel, None)
            await again.request("forget", kernel_id=kernel)
            await self._start(name, kernel)

        self.wait(body())

    @property
    def env(self) -> dict[str, str]:
        return {"MARK": self.mark}

    @precondition(lambda self: self.kernels)
    @rule(kernel=KERNELS)
    def kernel_exits(self, kernel: str) -> None:
        found = self.kernels.get(kernel)
        if found is not None and found.alive:
            os.kill(found.pid, signal.SIGKILL)
            self.until(lambda: not running(found.pid))
            found.alive = False

    @precondition(lambda self: self.kernels)
    @rule(kernel=KERNELS)
    def stop(self, kernel: str) -> None:
        async def body(found: Expected) -> None:
            server = await self.server(found.owner)
            await server.request("forget", kernel_id=kernel)

        if kernel in self.kernels:
            found = self.kernels[kernel]
            self.wait(body(found))
            assert not running(found.pid)
            del self.kernels[kernel]

    @rule()
    def agent_dies(self) -> None:
        self.wait(self._kill_agent())

    async def _kill_agent(self) -> None:
        if self.agent is not None:
            os.kill(self.agent, signal.SIGKILL)
            self.agent = None
            await asyncio.gather(*(server.closed for server in self.servers.values()))
            self.servers.clear()

    @rule(name=SERVERS)
    def network_fails_or_server_dies(self, name: str) -> None:
        self.wait(self.lose(name))

    @rule(name=SERVERS)
    def network_returns(self, name: str) -> None:
        self.wait(self.server(name))

    @rule()
    def both_return_at_once(self) -> None:
        async def body() -> None:
            await asyncio.gather(self.server("a"), self.server("b"))
            assert len({server.hello["pid"] for server in self.servers.values()}) == 1

        self.wait(body())

    @precondition(lambda self: any(kernel.alive for kernel in self.kernels.values()))
    @rule(kernel=KERNELS)
    def both_adopt_at_once(self, kernel: str) -> None:
        """Whoever is told that it has it: the agent names one owner."""

        async def body() -> None:
            servers = [await self.server(name) for name in ("a", "b")]
            asked = [server.request("adopt", kernel_id=kernel) for server in servers]
            await asyncio.gather(*asked, return_exceptions=True)
            status = await servers[0].request("status")
            (owner,) = [k["owner"] for k in status["kernels"] if k["kernel_id"] == kernel]
            assert owner in ("a", "b")
            self.kernels[kernel].owner = owner

        if kernel in self.kernels and self.kernels[kernel].alive:
            self.wait(body())

    # -- what always holds -------------------------------------------------------------------

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            self.wait(asyncio.sleep(0.002))

    @invariant()
    def what_has_to_run_runs_and_nothing_else(self) -> None:
        expected = {kernel.pid for kernel in self.kernels.values() if kernel.alive}
        # Linux shows no environment of a process for a moment after its exec.
        self.until(lambda: expected <= self.marked())
        assert self.marked() == expected

    def marked(self) -> set[int]:
        """The processes of this example that run."""
        mark, found = f"MARK={self.mark}".encode(), set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.add(int(entry.name))
        return {pid for pid in found if running(pid)}

    @invariant()
    def nobody_else_is_signalled(self) -> None:
        assert self.stranger.poll() is None

    @invariant()
    def the_agent_knows_each_and_its_owner(self) -> None:
        server = next((s for s in self.servers.values() if not s.closed.done()), None)
        if server is None:
            return
        asked: list[Message] = []

        async def status() -> None:
            asked[:] = (await server.request("status"))["kernels"]

        def seen() -> bool:  # a kernel's end is seen a moment later
            self.wait(status())
            alive = {k["kernel_id"]: k["pid"] for k in asked if k["exit_code"] is None}
            return alive == {name: k.pid for name, k in self.kernels.items() if k.alive}

        self.until(seen)
        self.compare(asked)
        owners = {kernel["kernel_id"]: kernel["owner"] for kernel in asked}
        assert owners == {name: kernel.owner for name, kernel in self.kernels.items()}

    def teardown(self) -> None:
        async def leave() -> None:
            for name in ("a", "b"):
                await (await self.server(name)).request("leave")
            for server in self.servers.values():
                await server.disconnect()

        try:
            self.wait(leave())
            if self.agent is not None:
                self.until(lambda: not running(self.agent or 0))
            assert not [k for k in self.kernels.values() if running(k.pid)]
        except BaseException:
            self.clear()
            raise
        finally:
            self.stranger.kill()
            self.stranger.wait()
            self.loop.close()

    def clear(self) -> None:
        """What a failed example leaves is not the next one's. Prints the agents' logs."""
        for log in Path(tempfile.gettempdir()).glob("remote-provisioners-*/*/agent.log"):
            print(log.read_text(errors="replace"))
        for pid in (*self.marked(), *filter(None, [self.agent])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for server in self.servers.values():
            server.transport.abort()
        self.wait(asyncio.sleep(0.1))
        for directory in Path(tempfile.gettempdir()).glob("remote-provisioners-*"):
            shutil.rmtree(directory)


def test_interleavings(clean_environment: Path) -> None:
    run_state_machine_as_test(
        RealInterleavings,
        settings=settings(
            max_examples=share(0.12),
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
