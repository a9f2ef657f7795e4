"""``kill -9`` of a Jupyter server at every phase of a kernel: the table is docs/faults.md."""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import WHERE, Applications, Server, Signal, eventually, kernels_on

SLOW = f"echo begun; sleep 3; exec {sys.executable} -m ipykernel_launcher -f $0"
# As long as a server waits for a kernel that it has told to end.
SLOW_END = "import atexit, time; atexit.register(time.sleep, 4)"


@pytest.fixture
def under_way() -> Iterator[Callable[..., None]]:
    """Ask a server for something that it will not live to answer."""
    threads: list[threading.Thread] = []

    def ask(server: Server, *request: Any) -> None:
        def body() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                server.ask(*request)

        threads.append(threading.Thread(target=body))
        threads[-1].start()

    yield ask
    for thread in threads:
        thread.join()


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def kernels(server: Server) -> dict[str, Any]:
    return {kernel["id"]: kernel for kernel in server.ask("GET", "/api/kernels")[1]}


def pid_of(server: Server, kernel: str) -> int:
    return int(server.run(kernel, WHERE).split()[1])


def test_in_every_phase(
    rig: Rig,
    install_spec: InstallSpec,
    applications: Applications,
    under_way: Callable[..., None],
) -> None:
    host = rig.hosts[0]
    install_spec(host.target)
    install_spec(host.target, name="slow", argv=["sh", "-c", SLOW, "{connection_file}"])
    server = applications.server("server")
    phases = ("idle", "busy", "printing", "shutdown", "restart")
    ids = {phase: server.start_kernel() for phase in phases}
    pids = {phase: pid_of(server, kernel) for phase, kernel in ids.items()}
    for phase, kernel in ids.items():
        server.run(kernel, f"kept = {phase!r}")
    for phase in ("shutdown", "restart"):
        server.run(ids[phase], SLOW_END)
    restored = Signal(host)
    server.connect(ids["busy"]).execute(f"import os, time\n{restored.wait}kept += ', done'")
    printing = server.connect(ids["printing"])
    printing.execute(
        "import itertools, os, time\nfor n in itertools.count():\n    print(n, flush=True)\n"
        f"    time.sleep(0.1)\n    if {restored.given}: break"
    )
    while printing.receive()["content"].get("text") != "0\n":
        pass
    before = set(kernels_on(host))
    under_way(server, "POST", "/api/kernels", {"name": "slow"})
    under_way(server, "DELETE", f"/api/kernels/{ids['shutdown']}")
    under_way(server, "POST", f"/api/kernels/{ids['restart']}/restart")
    starting = eventually(lambda: set(kernels_on(host)) - before)
    eventually(lambda: {"start", "stop", "restart"} <= set(applications.in_progress))
    kill(server)

    server = applications.server("server")
    assert set(kernels(server)) == set(ids.values()) - {ids["shutdown"]}
    restored.give()
    # Ended: nobody has the id of what was starting, and the other one was to be stopped.
    eventually(lambda: not ({*starting, pids["shutdown"]} & set(kernels_on(host))))
    eventually(lambda: len(list(applications.directory.glob("data/**/*.json"))) == len(ids) - 1)
    assert server.run(ids["idle"], f"print(kept); {WHERE}").startswith("idle\n")
    assert pid_of(server, ids["idle"]) == pids["idle"]
    for phase, kept in (("busy", "busy, done\n"), ("printing", "printing\n")):
        assert server.run(ids[phase], "print(kept)") == kept
        assert pid_of(server, ids[phase]) == pids[phase]
    assert server.run(ids["restart"], "print('kept' in dir())") == "False\n"
    assert pids["restart"] not in kernels_on(host)
    assert len(kernels_on(host)) == len(ids) - 1
    assert server.run(server.start_kernel(), "print(6 * 7)") == "42\n"
    # The restarter of one that was restarted is there.
    channels = server.connect(ids["restart"])
    channels.execute("import os; os._exit(3)")
    channels.wait_for_state("restarting")
    assert channels.run("print(6 * 7)") == "42\n"
    restored.remove()


def test_while_many_start(
    rig: Rig,
    install_spec: InstallSpec,
    applications: Applications,
    under_way: Callable[..., None],
) -> None:
    """Whatever each start has come to: it is there, with an owner, or its kernel has ended."""
    host = rig.hosts[0]
    install_spec(host.target)
    server = applications.server("server")
    server.start_kernel()
    count = 12
    for _ in range(count):
        under_way(server, "POST", "/api/kernels", {"name": "remote"})
    eventually(lambda: len(kernels_on(host)) > count // 3)
    kill(server)
    server = applications.server("server")
    there = kernels(server)
    assert there
    for kernel in there:
        assert server.run(kernel, "print(6 * 7)") == "42\n"
    eventually(lambda: len(kernels_on(host)) == len(there))
    eventually(lambda: len(list(applications.directory.glob("data/**/*.json"))) == len(there))
