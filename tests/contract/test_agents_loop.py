"""What the agent does on its only loop: nothing there may wait for a file system or a program."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .test_agent import Server, connect, listens, run

#: Runs an agent, and notes the calls of its main thread that can wait for a file system.
WATCHED = """
import os, sys, threading

from remote_provisioners.agent import agent, main
from remote_provisioners.agent.kernels import kernel_table
from remote_provisioners.agent.machine.load import Load
from tests.waiting_calls import watch

directory, ready, path, _ = sys.argv[1:]
notes = open(path, "a", buffering=1)
serving = False
agent.TICK_SECONDS = kernel_table.TICK_SECONDS = 0.2

def on_loop():
    return serving and threading.current_thread() is threading.main_thread()

def note(text):
    notes.write(text + chr(10))

class Log:
    def write(self, text):
        if on_loop():
            note("log " + text)
    def flush(self):
        pass

def takes_over(table, take_over=kernel_table.KernelTable.take_over):
    global serving
    serving = True
    return take_over(table)

def ends(load, close=Load.close):
    global serving
    serving = False
    close(load)

watch(on_loop, note)
kernel_table.KernelTable.take_over, Load.close, sys.stdout = takes_over, ends, Log()
main.main(directory, int(ready))
"""

ROOT = Path(__file__).parents[2]
HOOKED = "export HOOKED=1"
IPYKERNEL = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
DEVICES = {"gpus": {"count": 1, "devices": ["0", "1"]}}


def archive() -> str:
    """A kernelspec's directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        made.addfile(tarfile.TarInfo("empty"))
    return base64.b64encode(buffer.getvalue()).decode()


async def use(server: Server, spec: Path) -> None:
    """Each request, kernels of each kind, and what happens by itself."""
    ask = server.request
    digest = "ab" * 32
    assert not (await ask("has_resources", digest=digest))["present"]
    await ask("put_resources", digest=digest, archive=archive())
    await server.start("listens", listens(0), hook=HOOKED, resources=digest, **DEVICES)
    await server.until(lambda: server.kernels("listening") == ["listens"])
    for name, warm in (("spawned", 0), ("forked", 1)):
        started = await server.start(name, IPYKERNEL, warm=warm)
        assert started["way"] == name
        await server.until(lambda name=name: name in server.kernels("listening"))
    await server.start("listens", listens(0), connection={"transport": "tcp"}, **DEVICES)
    await server.start("dies", ["sh", "-c", "echo dying; exit 3"])
    await server.until(lambda: "dies" in server.kernels("exited"))
    for name in ("tail", "output", "announce", "signal", "attach"):
        more: dict[str, Any] = {"text": "x"} if name == "announce" else {}
        more = {"signum": signal.SIGINT} if name == "signal" else more
        await ask(name, kernel_id="spawned", **more)
    await ask("resolve_path", kernel_id="spawned", path="x")
    await ask("ports", kernel_ids=["spawned"])
    await ask("load")
    await ask("status")
    await ask("examine", python=sys.executable, package="pip", hook="")
    await ask("find_environments", hook="", directories=[])
    await ask("kernelspec_files", path=str(spec))
    await ask("forget", kernel_id="dies")
    await asyncio.sleep(0.5)  # the regular tasks run


@contextlib.contextmanager
def watched_agent(directory: Path, notes: Path) -> Iterator[subprocess.Popen[bytes]]:
    read, write = os.pipe()
    words = [str(directory), str(write), str(notes), str(directory / "agent.pyz")]
    argv = [sys.executable, "-c", WATCHED, *words]
    agent = subprocess.Popen(argv, cwd=ROOT, pass_fds=[write])
    os.close(write)
    try:
        assert os.read(read, 1) == b"+"
        yield agent
    finally:
        os.close(read)
        agent.kill()
        agent.wait()


def test_nothing_on_the_loop_waits_for_a_file_system(
    clean_environment: Path, tmp_path: Path
) -> None:
    """The next agent reads the records of the killed one, and does not wait for them either."""
    directory, notes = clean_environment / "remote-provisioners-0" / "aa-1", tmp_path / "notes"
    directory.mkdir(0o700, parents=True)
    path = directory / "agent.sock"

    async def body(agent: subprocess.Popen[bytes]) -> None:
        server = await connect(str(path), "a")
        await use(server, tmp_path)
        agent.kill()
        await server.disconnect()

    async def after(agent: subprocess.Popen[bytes]) -> None:
        server = await connect(str(path), "a")
        assert {each["kernel_id"] for each in server.hello["kernels"]} > {"spawned", "listens"}
        await server.request("leave")
        await server.disconnect()

    with watched_agent(directory, notes) as agent:
        run(body(agent))
    path.unlink()
    with watched_agent(directory, notes) as agent:
        run(after(agent))
        agent.wait(20)
    found = notes.read_text().splitlines()
    print(*found, sep="\n")
    assert found == []
