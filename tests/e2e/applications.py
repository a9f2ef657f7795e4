"""Jupyter's applications as users run them: processes of their own, spoken to from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import websocket
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)

from .. import conftest
from ..free_port import free_port
from ..rig import Host, Rig

TOKEN = "token-of-the-tests"
AUTHORIZATION = {"Authorization": f"token {TOKEN}"}
V1 = "v1.kernel.websocket.jupyter.org"

# A second of CPU at each start, for what is seen under `jupyter lab` only.
NO_LAB = dict.fromkeys(
    ("jupyterlab", "jupyter_lsp", "notebook_shim", "jupyter_server_proxy"), False
)

# What a machine with two busy cores may take; none of it is waited for when all goes well.
START_SECONDS = 60.0
END_SECONDS = 30.0
REPLY_SECONDS = 60.0

WHERE = "import os, socket; print(socket.gethostname(), os.getpid())"


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The value of `condition` once it is true: applications take longer than kernels."""
    return conftest.eventually(condition, seconds)


class Signal:
    """A signal that a cell waits for. The test gives it on the cell's host."""

    def __init__(self, host: Host) -> None:
        self.path = f"/tmp/signal-{uuid.uuid4().hex}"
        self.given = f"os.path.exists({self.path!r})"
        self.wait = f"while not {self.given}: time.sleep(0.05)\n"
        self._host = host

    def give(self) -> None:
        self._host.run(["touch", self.path])

    def remove(self) -> None:
        self._host.run(["rm", "-f", self.path])


#: Prints more than is kept, after a Signal; to be formatted with its `wait`.
PRINT_MUCH = """
import os, time
{wait}
for n in range(200):
    display({{"text/plain": "x" * 100_000}}, raw=True)
"""


def agents_on(host: Host) -> list[int]:
    """The agents of this package that run on `host`."""
    return [p.pid for p in host.processes() if "agent.pyz" in " ".join(p.argv)]


def kernels_on(host: Host) -> list[int]:
    """What agents have started on `host`: kernels, and what those have started."""
    processes = host.processes()
    agents = {p.pid for p in processes if "agent.pyz" in " ".join(p.argv)}
    family = set(agents)
    for process in processes:  # by number, so parents come first
        if process.ppid in family:
            family.add(process.pid)
    # What kernels are forked from waits, with room in its argv for that of a kernel.
    templates = {p.pid for p in processes if "-----" in " ".join(p.argv)}
    return sorted(family - agents - templates)


def spread_as(rig: Rig, counts: Sequence[int]) -> bool:
    """Whether so many processes of kernels run on each host.

    Hosts with one ``/tmp`` have one agent: there only the sum can be told.
    """
    found = [len(kernels_on(host)) for host in rig.hosts]
    return found == list(counts) if rig.own_address else sum(found) == sum(counts)


def listens_beyond_loopback(host: Host) -> set[str]:
    """The TCP ports of `host` that others can reach."""
    listeners = [at for at in host.listening() if not at.startswith(("127.", "[::1]"))]
    return {listener.rpartition(":")[2] for listener in listeners}


class Application:
    """A process; what it prints goes to a file, which is shown when the test fails."""

    def __init__(self, argv: Sequence[str], directory: Path, env: dict[str, str]) -> None:
        self.argv = list(argv)
        self._log = directory / f"output-{uuid.uuid4().hex[:8]}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=directory,
                env=env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends us in order
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def write(self, text: str) -> None:
        """Type `text`."""
        assert self.process.stdin
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def expect(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until it has printed what `pattern` matches."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None  # before the look at what it printed last
            if found := re.search(pattern, self.output):
                return found
            assert not ended, f"ended with {self.process.returncode}, never printed {pattern!r}"
            assert time.monotonic() < deadline, f"did not print {pattern!r} in time"
            time.sleep(0.02)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Close its input and wait for its end; returns the exit code."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(seconds)

    def end(self, signum: int = signal.SIGTERM) -> int:
        """End it by a signal; returns the exit code."""
        self.process.send_signal(signum)
        return self.wait()

    def close(self) -> None:
        """End it whatever happens, show what it printed."""
        try:
            if self.process.poll() is None:
                self.end()
        except subprocess.TimeoutExpired:
            print("it had to be killed:")
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdin
            self.process.stdin.close()
            print(f"--- {self.argv} ended with {self.process.returncode}:\n{self.output}")


class Server(Application):
    """An application with the REST interface of a Jupyter server."""

    def __init__(
        self, argv: Sequence[str], directory: Path, env: dict[str, str], port: int = 0
    ) -> None:
        port = port or free_port()
        super().__init__([*argv, f"--port={port}"], directory, env)
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._websockets = ExitStack()

    def wait_until_ready(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, "it ended"
            try:
                return self.ask("GET", "/api")[0] == 200
            except OSError:
                return False

        eventually(answers, START_SECONDS)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON that the server answers."""
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={**AUTHORIZATION, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=REPLY_SECONDS) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    @property
    def most_memory(self) -> int:
        """The most bytes of memory that the server has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]

    def start_kernel(self, name: str = "remote", **model: Any) -> str:
        """Start a kernel; returns its id."""
        status, answer = self.ask("POST", "/api/kernels", {"name": name, **model})
        assert status == 201, answer
        return str(answer["id"])

    def connect(self, kernel_id: str, subprotocol: str = "", session: str = "") -> Channels:
        """A websocket to the kernel, closed with the server. `session`: that of an earlier one."""
        url = f"ws://{self.address}/api/kernels/{kernel_id}/channels"
        channels = Channels(url, subprotocol, session)
        self._websockets.callback(channels.close)
        return channels

    def run(self, kernel_id: str, code: str) -> str:
        """What `code` prints in the kernel, asked over a websocket of its own."""
        channels = self.connect(kernel_id)
        try:
            return channels.run(code)
        finally:
            channels.close()

    def close(self) -> None:
        self._websockets.close()
        super().close()


class Channels:
    """The websocket of a kernel, used as a browser uses it."""

    def __init__(self, url: str, subprotocol: str, session: str = "") -> None:
        self._v1 = subprotocol == V1
        self.session = session or uuid.uuid4().hex
        self._websocket = websocket.create_connection(
            f"{url}?session_id={self.session}",
            timeout=REPLY_SECONDS,
            header=AUTHORIZATION,
            subprotocols=[subprotocol] if subprotocol else None,
        )
        assert (self._websocket.getsubprotocol() or "") == subprotocol

    def send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a message; returns its id."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "session": self.session,
            "username": "tests",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.3",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        if self._v1:
            self._websocket.send_binary(serialize_msg_to_ws_v1(message, channel, _pack))
        else:
            self._websocket.send(json.dumps({**message, "channel": channel, "buffers": []}))
        return header["msg_id"]

    def execute(self, code: str, **options: Any) -> str:
        """Begin to run `code`; returns the request's id."""
        content = {"code": code, "silent": False, "store_history": True, **options}
        return self.send("execute_request", content)

    def receive(self) -> dict[str, Any]:
        """The next message of any channel."""
        data = self._websocket.recv()
        if not self._v1:
            return json.loads(data)
        channel, parts = deserialize_msg_from_ws_v1(data)
        names = ("header", "parent_header", "metadata", "content")
        message = dict(zip(names, map(json.loads, parts), strict=False))
        return {**message, "channel": channel, "msg_type": message["header"]["msg_type"]}

    def replies(self, request: str) -> Iterator[dict[str, Any]]:
        """What comes in answer to a request, until the kernel is idle and has replied."""
        missing = {"reply", "idle"}
        while missing:
            message = self.receive()
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "execute_reply":
                missing.discard("reply")
            if message["content"].get("execution_state") == "idle":
                missing.discard("idle")
            yield message

    def run(self, code: str) -> str:
        """What `code` prints; the error that it ends with, if any. Again, if it is aborted for
        an error of the one before: a kernel goes on a moment after that one's reply.
        """
        replies = list(self.replies(self.execute(code)))
        while any(reply["content"].get("status") == "aborted" for reply in replies):
            replies = list(self.replies(self.execute(code)))
        return "".join(
            message["content"].get("text") or message["content"].get("ename", "")
            for message in replies
            if message["msg_type"] in ("stream", "error")
        )

    def wait_for_state(self, state: str) -> None:
        """Wait for a status message with that execution state."""
        while self.receive()["content"].get("execution_state") != state:
            pass

    def close(self) -> None:
        self._websocket.close()


class Applications:
    """Starts applications in directories of their own; ends them when the test is over."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config"
        self.root = directory / "root"
        for created in (self.config, self.root):
            created.mkdir()
        self._stack = ExitStack()

    def __enter__(self) -> Applications:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def environ(self) -> dict[str, str]:
        """The test's own environment, with nothing of this machine's Jupyter."""
        return {
            **os.environ,
            "IPYTHONDIR": str(self.directory / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.config),
            "JUPYTER_DATA_DIR": str(self.directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.directory / "runtime"),
            "JUPYTER_TOKEN": TOKEN,
            "KG_AUTH_TOKEN": TOKEN,
            "NO_COLOR": "1",
        }

    @property
    def in_progress(self) -> list[str]:
        """The operation in each record of a kernel; "" for a kernel that runs."""
        paths = self.directory.glob("data/**/*.json")
        return [json.loads(path.read_text())["doing"] for path in paths]

    def configure(self, application: str, **options: Any) -> None:
        """Write the configuration file of `application` with options of our provisioners."""
        lines = ["c = get_config()", ""]
        lines += [f"c.RemoteProvisionerConfigMixin.{k} = {v!r}" for k, v in options.items()]
        (self.config / f"{application}_config.py").write_text("\n".join(lines) + "\n")

    def jupyter(self, *argv: str, **env: str) -> Application:
        """``jupyter ARGV``"""
        return self.python("-m", "jupyter", *argv, **env)

    def script(self, code: str, *argv: str) -> Application:
        """A Python script of that text."""
        path = self.directory / f"script-{uuid.uuid4().hex[:8]}.py"
        path.write_text(code)
        return self.python(str(path), *argv)

    def python(self, *argv: str, **env: str) -> Application:
        """``python ARGV``"""
        started = Application(
            [sys.executable, "-u", *argv], self.directory, {**self.environ, **env}
        )
        self._stack.callback(started.close)
        return started

    def server(
        self,
        application: str,
        *options: str,
        wait: bool = True,
        port: int = 0,
        python: str = sys.executable,
        **env: str,
    ) -> Server:
        """``jupyter APPLICATION``, once it answers; at a free port, unless it is told one."""
        argv = [python, "-m", "jupyter", application, "--ip=127.0.0.1"]
        if application != "kernelgateway":
            argv += ["--allow-root", "--no-browser", f"--ServerApp.root_dir={self.root}"]
            argv += ["--ServerApp.port_retries=0"]
        if application == "server":
            argv.append(f"--ServerApp.jpserver_extensions={NO_LAB}")
        started = Server([*argv, *options], self.directory, {**self.environ, **env}, port)
        self._stack.callback(started.close)
        if wait:
            started.wait_until_ready()
        return started


def names_of(rig: Rig) -> list[str]:
    """What ``hostname`` says on each host."""
    return [host.run(["hostname"]).strip() for host in rig.hosts]


def _pack(part: Any) -> bytes:
    return json.dumps(part).encode()
