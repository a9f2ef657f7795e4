"""No byte is lost, and none comes twice, whatever becomes of the connection or of the server."""

from __future__ import annotations

import asyncio
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from traitlets.config import Config

from remote_provisioners.hosts.transport.by_asyncssh import connection as ssh_connection
from remote_provisioners.hosts.transport.pipe import transport as pipe
from remote_provisioners.io_thread import io_thread
from remote_provisioners.provisioner import DistributedProvisioner

from ..conftest import InstallSpec, Start, be_client, eventually, kernel_of
from ..rig import Host, Rig

COUNTS = """
import sys, time
for number in range({count}):
    print(number, flush=True)
    time.sleep({pause})
"""


#: By forwards of a connection within this process, and by a pipe.
EACH_WAY = pytest.mark.parametrize(
    "way", ["asyncssh", pytest.param("openssh", marks=pytest.mark.long)], indirect=True
)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """How hosts are reached."""
    return str(getattr(request, "param", "asyncssh"))


@pytest.fixture
def host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch, way: str) -> Host:
    be_client(own_rig, monkeypatch)
    monkeypatch.setenv("RP_CONNECT", way)
    return own_rig.hosts[0]


@pytest.fixture(autouse=True, scope="module")
def large_message() -> None:
    """pyzmq's own sockets for large messages, which it opens once a process, are no test's."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as two:
        one.bind("inproc://large")
        two.connect("inproc://large")
        one.send(b"x" * 100_000, copy=False)
        two.recv()


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do `action` in a thread; its errors are ours."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not errors, errors


def sessions_killed(host: Host, seconds: float, times: int = 1, first: float = 0.05) -> None:
    for _ in range(times):
        time.sleep(first)
        host.stop_sshd(sessions=True)
        time.sleep(seconds)
        host.start_sshd()


#: In two halves. The file goes when the half is printed.
HALVES = """
import os, time
print("begin", flush=True)
for first in (0, 75):
    while not os.path.exists("/tmp/go"): time.sleep(0.02)
    for number in range(first, first + 75):
        print(number, flush=True)
        time.sleep(0.01)
    os.unlink("/tmp/go")
"""

#: From the first number on there is a file; another one ends it.
UNTIL_ENOUGH = """
import itertools, os, time
for number in itertools.count():
    print(number, flush=True)
    open("/tmp/on", "w").close()
    if os.path.exists("/tmp/enough"): break
    time.sleep(0.05)
"""


def numbers(count: int) -> str:
    return "".join(f"{number}\n" for number in range(count))


@EACH_WAY
def test_a_cell_prints_while_the_link_is_down(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """Shorter than what counts as a loss."""
    session = start(install_spec(host.target))

    def fault() -> None:
        eventually(lambda: "on" in host.files("/tmp"))
        host.link_down()
        time.sleep(2.5)
        assert session.kernel.life.serving
        host.link_up()
        host.run(["touch", "/tmp/enough"])

    with meanwhile(fault):
        printed = session.run(UNTIL_ENOUGH, timeout=60)
    assert printed == numbers(printed.count("\n"))


@EACH_WAY
def test_a_cell_prints_while_packets_are_lost_until_that_is_noticed(
    host: Host, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ssh_connection, pipe):
        monkeypatch.setattr(module, "KEEPALIVE_SECONDS", 0.5)
    session = start(install_spec(host.target))

    def fault() -> None:
        eventually(lambda: "on" in host.files("/tmp"))
        host.drop()
        eventually(lambda: not session.kernel.life.serving, 30)
        host.heal()
        eventually(lambda: session.kernel.life.serving, 30)
        host.run(["touch", "/tmp/enough"])

    with meanwhile(fault):
        printed = session.run(UNTIL_ENOUGH, timeout=90)
    assert printed == numbers(printed.count("\n"))


@EACH_WAY
def test_a_cell_prints_while_the_connection_is_cut(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host.target))
    with meanwhile(lambda: sessions_killed(host, 0.5, times=3, first=0.3)):
        assert session.run(COUNTS.format(count=400, pause=0.01), timeout=60) == numbers(400)


def test_a_request_while_the_link_is_down_is_executed_once(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host.target))
    session.run("count = 0")
    host.stop_sshd(sessions=True)
    eventually(lambda: not session.kernel.life.serving)
    request = session.client.execute("count += 1")
    time.sleep(0.5)
    host.start_sshd()
    reply = session.client.get_shell_msg(timeout=20)
    assert reply["parent_header"]["msg_id"] == request
    assert reply["content"]["status"] == "ok"
    assert session.value("count") == 1


@EACH_WAY
def test_requests_while_connections_come_and_go(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """Each is executed once, in order, and answered."""
    session = start(install_spec(host.target))
    session.run("seen = []")
    with meanwhile(lambda: sessions_killed(host, 0.2, times=3, first=0.3)):
        asked = []
        for number in range(60):
            asked.append(session.client.execute(f"seen.append({number})"))
            time.sleep(0.03)
        answers = [session.client.get_shell_msg(timeout=30) for _ in asked]
    assert [answer["parent_header"]["msg_id"] for answer in answers] == asked
    assert session.value("seen") == list(range(60))


@pytest.mark.long
@EACH_WAY
def test_big_messages_are_cut_in_the_middle(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host.target))
    size = 20_000_000
    for _ in range(2):
        with meanwhile(lambda: sessions_killed(host, 0.1)):
            session.client.execute(f"text = {'x' * size!r}; print(len(text))")
            assert session.client.get_shell_msg(timeout=60)["content"]["status"] == "ok"
        with meanwhile(lambda: sessions_killed(host, 0.1)):
            printed = session.run(f"print('y' * {size})", timeout=60)
    assert session.value("len(text)") == size
    assert printed == "y" * size + "\n"


@EACH_WAY
def test_two_clients_have_the_same_output(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host.target))
    other = session.manager.client()
    other.start_channels(shell=False, stdin=False, hb=False, control=False)
    while not other.iopub_channel.msg_ready():  # subscribed
        session.run("1")
    drain(other)
    with meanwhile(lambda: sessions_killed(host, 0.5)):
        assert session.run(COUNTS.format(count=100, pause=0.01), timeout=60) == numbers(100)
    assert text_until(other, "99\n") == numbers(100)
    other.stop_channels()


def test_a_lost_kernels_requests_are_not_delivered_later(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """What was sent to the lost one is not executed by its successor."""
    session = start(install_spec(host.target, network_grace=1.0))
    session.run("count = 0")
    host.stop_sshd(sessions=True)
    eventually(lambda: not session.kernel.life.serving)
    session.client.execute("count = 'from before'")
    eventually(lambda: not session.manager.is_alive())
    host.start_sshd()
    session.manager.restart_kernel(now=True)
    session.client.kernel_info(reply=True, timeout=20)
    assert session.value("'count' in globals()") is False


def drain(client: Any) -> None:
    while client.iopub_channel.msg_ready():
        client.get_iopub_msg(timeout=1)


def text_until(client: Any, end: str, seconds: float = 60) -> str:
    """What is printed until that comes."""
    text = ""
    deadline = time.monotonic() + seconds
    while not text.endswith(end):
        assert time.monotonic() < deadline, text[-1000:]
        message = client.get_iopub_msg(timeout=deadline - time.monotonic())
        if message["msg_type"] == "stream":
            text += message["content"]["text"]
    return text


# -- the server goes -----------------------------------------------------------------------

SERVER = """
import asyncio, json, sys
from jupyter_client.manager import KernelManager
name, code = sys.argv[1:]
manager = KernelManager(kernel_name=name)
manager.start_kernel()
client = manager.client()
client.start_channels()
client.kernel_info(reply=True, timeout=30)
client.execute(code)
had = ""
while "begin" not in had:
    message = client.get_iopub_msg(timeout=30)
    had += message["content"]["text"] if message["msg_type"] == "stream" else ""
print(json.dumps(asyncio.run(manager.provisioner.get_provisioner_info())), flush=True)
sys.stdin.read()
"""


class Adopted:
    """A kernel whose server was killed, taken charge of by this process."""

    def __init__(self, name: str, code: str, after: Callable[[], None]) -> None:
        argv = [sys.executable, "-c", SERVER, name, code]
        server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert server.stdout is not None
        self.info = json.loads(server.stdout.readline())
        server.kill()
        server.communicate()
        for left in glob.glob(f"{tempfile.gettempdir()}/rp-*"):
            shutil.rmtree(left)
        after()
        self.provisioner = DistributedProvisioner(
            kernel_id=self.info["kernel_id"],
            kernel_spec=KernelSpecManager().get_kernel_spec(name),
        )
        asyncio.run(self.provisioner.load_provisioner_info(self.info))

    def client(self, replay: bool) -> BlockingKernelClient:
        if replay:

            async def flag() -> None:
                kernel_of(self.provisioner).client_sockets.replay()

            io_thread().call_blocking(flag(), 5)
        client = BlockingKernelClient()
        client.load_connection_info({**self.provisioner.connection_info})
        client.start_channels()
        return client


@pytest.fixture
def adopt() -> Iterator[Callable[..., Adopted]]:
    adopted: list[Adopted] = []

    def take(name: str, code: str, after: Callable[[], None] = lambda: None) -> Adopted:
        adopted.append(Adopted(name, code, after))
        return adopted[-1]

    yield take
    for each in adopted:
        asyncio.run(each.provisioner.cleanup())


def test_output_without_a_server_reaches_the_one_who_asks(
    rig: Rig, home: Path, install_spec: InstallSpec, adopt: Callable[..., Adopted]
) -> None:
    """Not the first who connects: that is the adopting server itself."""
    host = rig.hosts[0]
    name = install_spec(host.target)

    def go_on() -> None:
        """The cell waits for a file before each half of its numbers."""
        host.run(["touch", "/tmp/go"])
        eventually(lambda: "go" not in host.files("/tmp"))

    kernel = adopt(name, HALVES, go_on)
    watcher = kernel.client(replay=False)
    eventually(lambda: kernel_of(kernel.provisioner).client_sockets.has_client("iopub"))
    notebook = kernel.client(replay=True)
    assert text_until(notebook, "74\n").removeprefix("begin\n") == numbers(75)
    go_on()
    assert numbers(75) + text_until(notebook, "149\n") == numbers(150)
    seen = text_until(watcher, "149\n")
    assert numbers(150).endswith(seen)
    assert not seen.startswith("0\n")
    later = kernel.client(replay=True)  # there is nothing left
    later.execute("print('new')")
    assert text_until(later, "new\n") == "new\n"
    for client in (watcher, notebook, later):
        client.stop_channels()


def test_output_beyond_memory_is_on_disk_and_beyond_that_a_marker_says_so(
    rig: Rig, home: Path, install_spec: InstallSpec, adopt: Callable[..., Adopted]
) -> None:
    host = rig.hosts[0]
    name = install_spec(host.target, output_memory=0.1, output_disk=1.0)
    code = (
        "print('begin', flush=True)\nimport time; time.sleep(1)\n"
        "for number in range(300): print(f'{number:05}' + 'x' * 9994, flush=True)\n"
        "open('/tmp/printed', 'w').close()\n"
    )
    files: list[str] = []

    def kept() -> str:
        """The sizes of what is on disk."""
        return host.run(["find", "/tmp", "-name", "output-*", "-printf", "%s "])

    def look() -> None:
        eventually(lambda: "printed" in host.files("/tmp"), 30)
        while (before := kept()) != (time.sleep(0.3) or kept()):
            print("still arriving:", before)
        files.extend(file for file in host.files("/tmp") if "/output-" in file)
        host.run(["rm", "/tmp/printed"])

    kernel = adopt(name, code, look)
    client = kernel.client(replay=True)
    text = text_until(client, f"00299{'x' * 9994}\n")
    assert files
    before, _, after = text.rpartition(" of output are missing here: more than the host keeps]\n")
    gap_notice = before.rpartition("[remote-provisioners: ")[2]
    assert gap_notice.endswith(" messages")
    lines = after.split()
    assert len(lines) + int(gap_notice.split()[0]) >= 300
    assert 100 <= len(lines) < 120
    assert lines == [f"{number:05}" + "x" * 9994 for number in range(300 - len(lines), 300)]
    client.stop_channels()
    eventually(lambda: not [file for file in host.files("/tmp") if "/output-" in file])


def test_a_flood_of_output_leaves_other_kernels_their_pace(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    """A client that does not read its output makes nobody wait: neither its kernel nor others."""
    name = install_spec(rig.hosts[0].target, output_disk=16.0)
    flooding, other = start(name), start(name)
    request = flooding.client.execute("for _ in range(60): print('x' * 1_000_000, flush=True)")
    for _ in range(10):
        assert other.value("1") == 1
    reply = flooding.client.get_shell_msg(timeout=60)
    assert reply["parent_header"]["msg_id"] == request


def test_encrypted_channels_survive_as_well(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """They pass as they are: there is no recorder between."""
    config = Config({"KernelManager": {"transport_encryption": "required"}})
    name = install_spec(host.target)
    file = Path(os.environ["JUPYTER_PATH"], "kernels", name, "kernel.json")
    spec = json.loads(file.read_text())
    spec["metadata"]["supported_encryption"] = "curve"
    file.write_text(json.dumps(spec))
    session = start(name, config=config)
    assert "curve_publickey" in session.kernel.connection
    with meanwhile(lambda: sessions_killed(host, 0.5)):
        assert session.run(COUNTS.format(count=100, pause=0.01), timeout=60) == numbers(100)
