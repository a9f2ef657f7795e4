"""Every engine through the same life: the table is docs/engines.md."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from remote_provisioners.errors import RemoteProvisionerError, StartCancelledError
from remote_provisioners.hosts.registry import host_registry
from remote_provisioners.io_thread import io_thread
from remote_provisioners.kernels.start.starts import starts

from ..conftest import SLEEP, Session, Start, eventually
from ..e2e.applications import AUTHORIZATION, Applications
from .conftest import Row
from .rig import EngineRig

Install = Callable[..., str]
PID = "__import__('os').getpid()"


def interrupted(session: Session) -> str:
    """The name of the error of a cell that is interrupted while it runs."""
    request = session.client.execute(SLEEP)
    while session.client.get_iopub_msg(timeout=30)["msg_type"] != "stream":
        pass
    session.manager.interrupt_kernel()
    while True:
        reply = session.client.get_shell_msg(timeout=30)
        if reply["parent_header"].get("msg_id") == request:
            return str(reply["content"].get("ename"))


def test_life(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    name = install()
    with row("start"):
        session = start(name)
    with row("execute"):
        assert session.value("6 * 7") == 42
    with row("stdout"):
        assert session.run("print('a line')") == "a line\n"
    with row("error"):
        assert "boom" in session.run("raise ValueError('boom')")
    with row("completion"):
        session.run("%config IPCompleter.use_jedi = False")  # without a cache it takes long
        session.run("completed_by_it = 1")
        reply = session.client.complete("completed_b", reply=True, timeout=30)
        assert reply["content"]["matches"] == ["completed_by_it"]
    with row("interrupt"):
        assert interrupted(session) == "KeyboardInterrupt"
    with row("restart in place"):
        before = engine.jobs()
        session.manager.restart_kernel()
        session.client.kernel_info(reply=True, timeout=60)
        assert engine.jobs() == before
        assert "NameError" in session.run("completed_by_it")
    with row("shutdown"):
        session.manager.shutdown_kernel()
        assert not session.manager.is_alive()
    with row("nothing left in the engine"):
        assert eventually(lambda: engine.jobs() == [], 20)


#: Prints the port of a page.
SERVE = """
import http.server, os, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port)
"""


def test_files_and_ports(engine: EngineRig, row: Row, install: Install, tmp_path: Path) -> None:
    with row("files and ports"), Applications(tmp_path) as applications:
        server = applications.server("server")
        api = "/remote-provisioners/api/v1"
        kernel = server.start_kernel(install())
        (model,) = server.ask("GET", f"{api}/kernels")[1]["kernels"]
        there = f"{api}/hosts/{quote(model['host'], safe='')}"
        (host,) = server.ask("GET", f"{api}/hosts")[1]["hosts"]
        assert (host["name"], host["way_in"]) == (model["host"], "engine")

        body = {"type": "file", "format": "text", "content": "from the drive"}
        assert server.ask("PUT", f"{there}/contents/drive.txt", body)[0] == 201
        path = "os.path.expanduser('~/drive.txt')"
        assert server.run(kernel, f"import os; print(open({path}).read())") == "from the drive\n"
        server.run(kernel, f"open({path}, 'w').write('from the kernel')")
        status, file = server.ask("GET", f"{there}/contents/drive.txt")
        assert (status, file["content"]) == (200, "from the kernel")
        server.run(kernel, f"os.unlink({path})")

        port = int(server.run(kernel, SERVE))
        page = f"/remote-provisioners/kernels/{kernel}/proxy/{port}/a?b"
        request = Request(f"http://{server.address}{page}", headers=AUTHORIZATION)
        with urlopen(request, timeout=60) as answer:
            assert answer.read() == b"/a?b"
        (found,) = server.ask("GET", f"{api}/ports")[1]["kernels"]
        assert [port["number"] for port in found["ports"]] == [port]

        status, refused = server.ask("GET", f"{there}/environments")
        assert (status, "exists for one kernel" in refused["message"]) == (400, True)
        server.ask("DELETE", f"/api/kernels/{kernel}")
        eventually(lambda: engine.jobs() == [], 20)
        assert server.ask("GET", f"{there}/contents/drive.txt")[0] in (404, 503)


def test_two_kernels(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    with row("two kernels side by side"):
        name = install()
        sessions = [start(name), start(name)]
        for number, session in enumerate(sessions):
            session.run(f"mine = {number}")
        assert [session.value("mine") for session in sessions] == [0, 1]
        assert len(engine.jobs()) == 2
        sessions[0].manager.shutdown_kernel()
        eventually(lambda: len(engine.jobs()) == 1, 20)
        assert sessions[1].value("mine") == 1


def test_the_kernel_is_killed(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    with row("kill -9 of the kernel"):
        session = start(install())
        before = engine.jobs()
        engine.run(session, ["kill", "-KILL", str(session.value(PID))])
        eventually(lambda: not session.manager.is_alive(), 20)
        assert session.kernel.life.exit_code == -signal.SIGKILL
        session.manager.restart_kernel()
        session.client.kernel_info(reply=True, timeout=60)
        assert session.value("1 + 1") == 2
        assert engine.jobs() == before


def test_the_agent_is_killed(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    with row("kill -9 of the agent"):
        session = start(install())
        session.run("kept = 17")
        agent = session.agent
        engine.run(session, ["kill", "-KILL", str(agent)])
        if not engine.revives_agents:
            eventually(lambda: not session.manager.is_alive(), 60)
            session.manager.restart_kernel()
            session.client.kernel_info(reply=True, timeout=60)
            assert session.value("1 + 1") == 2
            return
        eventually(lambda: session.agent not in (0, agent), 30)
        # A client whose own connection was lost misses what is printed before it is back.
        eventually(lambda: _printed(session, "kept") == "17\n", 60)
        assert interrupted(session) == "KeyboardInterrupt"


def _printed(session: Session, expression: str) -> str:
    """What printing it shows; "" if that does not come."""
    with contextlib.suppress(TimeoutError):
        return session.run(f"print({expression})", timeout=5)
    return ""


def test_the_server_is_killed(
    engine: EngineRig, row: Row, install: Install, tmp_path: Path
) -> None:
    with row("kill -9 of the server"), Applications(tmp_path) as applications:
        name = install()
        server, other = applications.server("server"), applications.server("server")
        kernel, of_other = server.start_kernel(name), other.start_kernel(name)
        server.run(kernel, "kept = 17")
        before = engine.jobs()
        server.process.kill()
        server.process.wait()
        server = applications.server("server")
        assert [k["id"] for k in server.ask("GET", "/api/kernels")[1]] == [kernel]
        assert server.run(kernel, "print(kept)") == "17\n"
        assert engine.jobs() == before
        listed = applications.jupyter("remote", "kernels")
        assert listed.wait() == 0
        assert kernel in listed.output
        server.ask("DELETE", f"/api/kernels/{kernel}")
        eventually(lambda: len(engine.jobs()) == 1, 20)
        assert other.run(of_other, "print(6 * 7)") == "42\n"
        other.ask("DELETE", f"/api/kernels/{of_other}")
        eventually(lambda: engine.jobs() == [], 20)


def test_the_server_is_killed_while_it_waits(
    engine: EngineRig, row: Row, install: Install, tmp_path: Path
) -> None:
    """Nobody has the kernel's id: the next server cancels the start."""
    title = "kill -9 of the server while a start waits"
    with row(title), engine.full(), Applications(tmp_path) as applications:
        name, others = install(), set(engine.jobs())
        server = applications.server("server")

        def ask() -> None:
            with contextlib.suppress(Exception):
                server.start_kernel(name)

        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: set(engine.jobs()) > others, 60)
        server.process.kill()
        server.process.wait()
        asking.join()
        assert set(engine.jobs()) > others
        server = applications.server("server")
        eventually(lambda: set(engine.jobs()) == others, 30)
        assert server.ask("GET", "/api/kernels")[1] == []
        # The next process that has hosts removes the sockets of the killed one.
        io_thread().call_blocking(host_registry(), 10)


def test_the_engine_is_down(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    name = install()
    with row("engine down at start"):
        with engine.down(), pytest.raises(RemoteProvisionerError) as raised:
            start(name)
        assert re.search(engine.down_text, str(raised.value))
        assert start(name).value("1 + 1") == 2


def test_the_engine_is_lost(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    with row("engine lost while running"):
        session = start(install())
        session.run("kept = 17")
        with engine.down():
            time.sleep(1)
            assert session.manager.is_alive()
        eventually(lambda: session.kernel.life.serving, 60)
        assert session.value("kept") == 17
        session.manager.shutdown_kernel()
        eventually(lambda: engine.jobs() == [], 30)


def test_no_room(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    with row("no room"), engine.full():
        others = engine.jobs()
        with pytest.raises(RemoteProvisionerError) as raised:
            start(install(**engine.short_wait))
        assert re.search(engine.full_text, str(raised.value))
        eventually(lambda: engine.jobs() == others, 10)


def test_cancelled(engine: EngineRig, row: Row, install: Install) -> None:
    """A user cancels the start: soon nothing of it is there."""
    with row("cancelled while it waits"), engine.full():
        others = engine.jobs()
        specs = KernelSpecManager()
        manager = KernelManager(kernel_name=install(), kernel_spec_manager=specs)
        told: list[float] = []

        def cancel() -> None:
            async def look() -> bool:
                under_way = starts().under_way
                if not any(re.search(engine.full_text, start.text) for start in under_way):
                    return False
                told.append(time.monotonic())
                return starts().cancel(under_way[0].kernel_id)

            eventually(lambda: io_thread().call_blocking(look(), 10), 60)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(StartCancelledError):
            ensure_event_loop().run_until_complete(_started(manager))
        thread.join()
        eventually(lambda: engine.jobs() == others, max(0.1, told[0] + 10 - time.monotonic()))


async def _started(manager: KernelManager) -> None:
    await asyncio.wait_for(manager._async_start_kernel(), 120)


def test_a_limit(engine: EngineRig, row: Row, install: Install, start: Start) -> None:
    with row("limit hit"):
        limit = engine.limit
        assert limit is not None
        session = start(install(**limit.options))
        session.client.execute(limit.code)
        eventually(lambda: not session.manager.is_alive(), limit.seconds)
        assert re.search(limit.text, session.provisioner.reason), session.provisioner.reason
