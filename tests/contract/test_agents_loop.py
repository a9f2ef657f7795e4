"""What the agent does on its only loop: nothing there may wait for a file system or a program.

How late a loop is depends on all that this machine does. So this looks for the calls that can wait:
each of them, on whatever path, has to be made in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from .test_agent import Server, connect, listens, run

#: Runs an agent, and notes the calls of its main thread that can wait for a file system.
WATCHED = """
import builtins, fcntl, os, subprocess, sys, threading

from remote_provisioners.agent import agent, main
from remote_provisioners.agent.kernels import kernel_table
from remote_provisioners.agent.machine.load import Load

directory, ready, path, _ = sys.argv[1:]
notes = open(path, "a", buffering=1)
serving = False
agent.TICK_SECONDS = kernel_table.TICK_SECONDS = 0.2
#: What the system keeps in memory.
MEMORY = ("/proc/", "/sys/", "/dev/")

def note(call, what):
    what = os.fsdecode(what) if isinstance(what, bytes) else what
    if isinstance(what, int) or str(what).startswith(MEMORY) or str(what) in ("/proc", "/sys"):
        return
    if serving and threading.current_thread() is threading.main_thread():
        frame, places = sys._getframe(2), []
        while frame is not None and len(places) < 3:
            file = frame.f_code.co_filename
            if "linecache" in file:  # a failure is logged
                return
            if "/remote_provisioners/" in file:
                places.append("{}:{}".format(file.rpartition("/")[2], frame.f_lineno))
            frame = frame.f_back
        notes.write("{} {} in {}\\n".format(call, what, " < ".join(places)))

def watch(place, *names):
    for name in names:
        def called(*args, real=getattr(place, name), name=name, **kwargs):
            note(name, args[0] if args else kwargs)
            return real(*args, **kwargs)
        setattr(place, name, called)

class Log:
    def write(self, text):
        note("log", text)
    def flush(self):
        pass

def until_ready(descriptor, data, write=os.write):
    global serving
    serving = serving or descriptor == int(ready)
    return write(descriptor, data)

def ends(load, close=Load.close):
    global serving
    serving = False
    close(load)

watch(os, "open", "stat", "lstat", "listdir", "scandir", "mkdir", "rmdir", "rename", "replace",
      "unlink", "remove", "symlink", "readlink", "chmod", "utime", "truncate", "statvfs", "access",
      "chdir", "fsync")
watch(builtins, "open")
watch(fcntl, "flock")
watch(subprocess, "Popen")
os.write, Load.close, sys.stdout = until_ready, ends, Log()
main.main(directory, int(ready))
"""

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
    for name in ("spawned", "forked", "warm"):
        await server.start(name, IPYKERNEL, warm=1)
        await server.until(lambda name=name: name in server.kernels("listening"))
        if name == "spawned":
            await asyncio.sleep(1.1)  # then its template is loaded
    await server.start("listens", listens(0), connection={"transport": "tcp"}, **DEVICES)
    await server.start("dies", ["sh", "-c", "echo dying; exit 3"])
    await server.until(lambda: server.kernels("exited") == ["dies"])
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


def test_nothing_on_the_loop_waits_for_a_file_system(
    clean_environment: Path, tmp_path: Path
) -> None:
    directory, notes = clean_environment / "remote-provisioners-0" / "aa-1", tmp_path / "notes"
    directory.mkdir(0o700, parents=True)
    read, write = os.pipe()
    words = [str(directory), str(write), str(notes), str(directory / "agent.pyz")]
    agent = subprocess.Popen([sys.executable, "-c", WATCHED, *words], pass_fds=[write])
    os.close(write)
    try:
        assert os.read(read, 1) == b"+"

        async def body() -> None:
            server = await connect(str(directory / "agent.sock"), "a")
            try:
                await use(server, tmp_path)
            finally:
                await server.request("leave")
                await server.disconnect()

        run(body())
        agent.wait(20)
    finally:
        os.close(read)
        agent.kill()
        agent.wait()
    found = notes.read_text().splitlines()
    print(*found, sep="\n")
    assert found == []
