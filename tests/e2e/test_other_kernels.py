"""Kernels that are not ipykernel and know nothing of us: all they get is a connection file."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import KernelStartError
from remote_provisioners.hosts import transport
from remote_provisioners.hosts.transport import connect

from ..conftest import InstallSpec, Session, Start, words
from ..rig import Host, Rig
from ..spark.client import reply_of
from .applications import eventually, kernels_on, listens_beyond_loopback

IRKERNEL = ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
IPYMINI = ["python", "-m", "ipymini", "-f", "{connection_file}"]
PORT_RANGE = range(33245, 34246)


def answers(session: Session, code: str) -> list[tuple[str, Any]]:
    """What comes in answer to `code`: the type of each message, and its text or value."""
    found = []

    def hook(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            found.append((content["name"], content["text"]))
        elif message["msg_type"] == "error":
            found.append(("error", content["evalue"]))
        elif "data" in content:
            found.append((message["msg_type"], content["data"]["text/plain"]))

    session.client.execute_interactive(code, timeout=60, output_hook=hook)
    return found


def interrupted(host: Host, session: Session, code: str) -> str:
    """Interrupt `code` once it has made the file that it calls FILE; the status of its reply.

    Once the kernel is idle again: a request that comes before makes IRkernel hang for ever, started
    without us as well (12 of 25 times, 0 of 30 after idle). Both kernels may also hang if the
    interrupt meets them when they have just begun a cell: hence the half a second in the code,
    before the file.
    """
    file = f"asleep-{uuid.uuid4().hex}"
    request = session.client.execute(code.replace("FILE", f"'/tmp/{file}'"))
    eventually(lambda: file in host.files("/tmp"))
    host.run(["rm", f"/tmp/{file}"])
    session.manager.interrupt_kernel()
    return str(reply_of(session, request)["status"])


def ports_on(host: Host) -> set[int]:
    """The TCP ports that kernels listen on; all of them on the loopback interface."""
    assert listens_beyond_loopback(host) <= {str(host.port)}
    return {int(at.rpartition(":")[2]) for at in host.listening()} - {host.port}


@pytest.fixture
def host(rig: Rig, home: object) -> Host:
    return rig.hosts[0]


# -- R -------------------------------------------------------------------------------------


@pytest.fixture
def irkernel(host: Host, install_spec: InstallSpec) -> str:
    """The kernelspec of IRkernel."""
    if not shutil.which("R"):
        pytest.skip("R is not installed (on Debian: r-base-core r-cran-irkernel)")
    # The hosts' environment, not ours: that of a virtual machine of R's own may differ.
    found = subprocess.run(
        ["R", "--slave", "-e", "quit(status = !requireNamespace('IRkernel', quietly = TRUE))"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        check=False,
    )
    if found.returncode:
        pytest.skip("IRkernel is not installed (on Debian: r-cran-irkernel)")
    return install_spec(
        host.target,
        argv=IRKERNEL,
        spec={"language": "R"},
        port_range=f"{PORT_RANGE[0]}..{PORT_RANGE[-1]}",
    )


def test_irkernel_through_its_life(host: Host, irkernel: str, start: Start) -> None:
    session = start(irkernel)
    assert answers(session, "1 + 1") == [("display_data", "[1] 2")]
    assert answers(session, "cat('a line\\n')") == [("stdout", "a line\n")]
    assert answers(session, "stop('no')")[0] == (
        "error",
        "Error in eval(expr, envir, enclos): no\n",
    )
    (_, first) = answers(session, "x <- 6; cat(Sys.getpid())")[0]
    assert int(first) in kernels_on(host)

    assert not ports_on(host)  # on unix sockets: no other user of the host can connect

    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=60)
    (_, again) = answers(session, "cat(Sys.getpid())")[0]
    assert again != first
    assert answers(session, "cat(exists('x'))") == [("stdout", "FALSE")]
    assert not ports_on(host)

    session.manager.shutdown_kernel()
    assert not kernels_on(host)
    assert not ports_on(host)


def test_irkernel_interrupted(host: Host, irkernel: str, start: Start) -> None:
    session = start(irkernel)
    sleep = "Sys.sleep(0.5); invisible(file.create(FILE)); Sys.sleep(60)"
    assert interrupted(host, session, sleep) == "abort"
    assert answers(session, "2 + 2") == [("display_data", "[1] 4")]


def test_two_irkernels_side_by_side(host: Host, irkernel: str, start: Start) -> None:
    sessions = [start(irkernel) for _ in range(2)]
    for number, session in enumerate(sessions):
        answers(session, f"x <- {number}")
    for number, session in enumerate(sessions):
        assert answers(session, "cat(x)") == [("stdout", str(number))]


def test_irkernel_that_cannot_start(
    host: Host, install_spec: InstallSpec, irkernel: str, start: Start
) -> None:
    argv = ["R", "--slave", "-e", "stop('no licence')", "--args", "{connection_file}"]
    spec = install_spec(host.target, argv=argv, spec={"language": "R"}, name="fails")
    with pytest.raises(Exception, match=words(rf"host {host.target}: .*exit code 1.*no licence")):
        start(spec)


# -- another kernel of Python --------------------------------------------------------------


@pytest.fixture
def ipymini(host: Host, install_spec: InstallSpec) -> str:
    """The kernelspec of ipymini, which has neither ipykernel nor libzmq in it."""
    if importlib.util.find_spec("ipymini") is None:
        pytest.skip("ipymini is not installed (by pip: ipymini)")
    return install_spec(host.target, argv=IPYMINI)


def test_ipymini_through_its_life(host: Host, ipymini: str, start: Start) -> None:
    session = start(ipymini)
    assert answers(session, "1 + 1") == [("execute_result", "2")]
    first = session.value("__import__('os').getpid()")
    assert first in kernels_on(host)
    ports = ports_on(host)
    assert len(ports) == 5

    sleep = "import time; time.sleep(0.5); open(FILE, 'w').close(); time.sleep(60)"
    assert interrupted(host, session, sleep) == "error"
    assert session.value("6 * 7") == 42

    for now in (False, True):
        session.manager.restart_kernel(now=now)
        session.client.kernel_info(reply=True, timeout=60)
        again = session.value("__import__('os').getpid()")
        assert again != first
        assert ports_on(host) == ports
        first = again

    session.client.execute("import os; os._exit(5)")
    eventually(lambda: not session.manager.is_alive())
    assert session.kernel.life.exit_code == 5


# -- kernels of which nobody knows whether they bind unix sockets ----------------------------

#: ipykernel, which notes each start. Joins "ip" and "port" as IJulia does, or hangs, or neither.
UNKNOWN = """
import json, sys, time
import zmq
from ipykernel.kernelapp import IPKernelApp

connection, bind = json.load(open(sys.argv[-1])), zmq.Socket.bind
transport, ip = connection["transport"], connection["ip"]
with open("/tmp/starts-{name}", "a") as file:
    file.write(transport + chr(10))
if "{name}" == "hangs" and transport == "ipc":
    time.sleep(300)
if "{name}" == "colon":
    zmq.Socket.bind = lambda socket, url: bind(socket, url.replace(ip + "-", ip + ":"))
IPKernelApp.launch_instance(sys.argv[1:])
"""


def begun(host: Host, name: str) -> list[str]:
    """How the kernel was asked to listen at each start."""
    return host.run(["cat", f"/tmp/starts-{name}"]).split()


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        ("colon", ["ipc"], "ipc"),
        pytest.param("hangs", ["ipc", "tcp"], "tcp", marks=pytest.mark.long),
    ],
)
def test_the_first_start_shows_whether_a_kernel_binds_unix_sockets(
    host: Host, install_spec: InstallSpec, start: Start, name: str, first: list[str], later: str
) -> None:
    argv = ["python", "-c", UNKNOWN.replace("{name}", name), "-f", "{connection_file}"]
    spec = install_spec(host.target, argv=argv, launch_timeout=6.0)
    host.run(["rm", "-f", f"/tmp/starts-{name}"])
    session = start(spec)
    assert begun(host, name) == first
    assert session.value("6 * 7") == 42
    own = 1  # ipykernel's, for what its children print
    assert len(ports_on(host)) == own + 5 * (later == "tcp")
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=60)
    assert session.value("6 * 7") == 42
    session.manager.shutdown_kernel(now=True)
    assert start(spec).value("1") == 1  # by another provisioner
    assert begun(host, name) == [*first, later, later]


@pytest.mark.long
def test_a_slow_connection_takes_no_time_of_the_trial(
    host: Host, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(*args: Any) -> Any:
        await asyncio.sleep(4.0)
        return await connect(*args)

    monkeypatch.setattr(transport, "connect", slowly)
    argv = ["python", "-c", UNKNOWN.replace("{name}", "hangs"), "-f", "{connection_file}"]
    host.run(["rm", "-f", "/tmp/starts-hangs"])
    session = start(install_spec(host.target, argv=argv, launch_timeout=7.0))
    assert session.value("6 * 7") == 42
    assert begun(host, "hangs") == ["ipc", "tcp"]


@pytest.mark.long
def test_another_version_that_hangs_is_tried_again(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """Also by the same provisioner, although it knows how its kernel listened before."""
    code = UNKNOWN.replace("{name}", "later").replace(
        '"later" == "hangs"', '__import__("os").path.exists("/tmp/turned")'
    )
    argv = ["python", "-c", code, "-f", "{connection_file}"]
    host.run(["rm", "-f", "/tmp/starts-later"])
    session = start(install_spec(host.target, argv=argv, launch_timeout=6.0))
    host.run(["touch", "/tmp/turned"])
    with pytest.raises(KernelStartError, match="did not open its ports"):
        session.manager.restart_kernel(now=True)
    session.manager.restart_kernel(now=True)
    session.client.kernel_info(reply=True, timeout=60)
    assert session.value("6 * 7") == 42
    host.run(["rm", "/tmp/turned"])
    assert begun(host, "later") == ["ipc", "ipc", "ipc", "tcp"]


@pytest.mark.long
def test_another_version_of_a_kernel_is_tried_again(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    code = UNKNOWN.replace("{name}", "turns").replace("time.sleep(300)", "sys.exit('only TCP')")
    code = code.replace('"turns" == "hangs"', '__import__("os").path.exists("/tmp/turned")')
    spec = install_spec(host.target, argv=["python", "-c", code, "-f", "{connection_file}"])
    host.run(["rm", "-f", "/tmp/starts-turns"])
    start(spec)
    host.run(["touch", "/tmp/turned"])
    with pytest.raises(KernelStartError, match="only TCP"):
        start(spec)
    for _ in range(2):
        assert start(spec).value("1") == 1
    host.run(["rm", "/tmp/turned"])
    assert begun(host, "turns") == ["ipc", "ipc", "ipc", "tcp", "tcp"]


@pytest.mark.long
def test_a_wrapper_of_ipykernel_binds_no_port(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    if importlib.util.find_spec("bash_kernel") is None:
        pytest.skip("bash_kernel is not installed (by pip: bash_kernel)")
    argv = ["python", "-m", "bash_kernel", "-f", "{connection_file}"]
    session = start(install_spec(host.target, argv=argv, spec={"language": "bash"}))
    assert answers(session, "echo $((6 * 7))") == [("stdout", "42\n")]
    assert len(ports_on(host)) == 1  # ipykernel's own


def test_a_kernel_that_cannot_start_either_way_says_why(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    argv = ["python", "-c", "import sys; sys.exit('no licence')", "{connection_file}"]
    with pytest.raises(KernelStartError, match="no licence"):
        start(install_spec(host.target, argv=argv))


# -- Deno's --------------------------------------------------------------------------------


@pytest.fixture
def deno(host: Host, install_spec: InstallSpec) -> str:
    """The kernelspec of Deno, which ends when somebody connects and goes without a word."""
    program = Path(sys.executable).parent / "deno"
    if not program.exists():
        pytest.skip("Deno is not installed (by pip: deno)")
    argv = [str(program), "jupyter", "--kernel", "--conn", "{connection_file}"]
    return install_spec(host.target, argv=argv, spec={"language": "typescript"})


def test_deno_through_its_life(host: Host, deno: str, start: Start) -> None:
    def output(session: Session, code: str) -> str:
        """Deno's often comes after its "idle"."""
        request = session.client.execute(code)
        while True:
            message = session.client.get_iopub_msg(timeout=30)
            content = message["content"]
            if message["parent_header"].get("msg_id") == request and {"data", "text"} & set(
                content
            ):
                return str(content.get("text") or content["data"]["text/plain"])

    for _ in range(3):  # it was a matter of luck, and seldom good
        session = start(deno)
        assert "2" in output(session, "1 + 1")
    first = set(kernels_on(host))
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=60)
    assert output(session, "console.log('a line')") == "a line\n"
    assert len(first - set(kernels_on(host))) == 1


# -- a kernel that binds stdin late or never (IHaskell) --------------------------------------

STDIN_LATER = """
import sys
from ipykernel.kernelapp import IPKernelApp

class App(IPKernelApp):
    def _bind_socket(self, socket, port):
        if socket is getattr(self, "stdin_socket", None):
            return port
        return super()._bind_socket(socket, port)

    def bind_stdin(self):
        super()._bind_socket(self.stdin_socket, self.stdin_port)

App.launch_instance(sys.argv[1:])
"""


def test_a_kernel_that_binds_stdin_late_or_never(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    argv = ["python", "-c", STDIN_LATER, "-f", "{connection_file}"]
    session = start(install_spec(host.target, argv=argv))
    assert session.value("1 + 1") == 2
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=60)
    session.run("from ipykernel.kernelapp import IPKernelApp; IPKernelApp.instance().bind_stdin()")
    time.sleep(0.5)  # what is sent before the client has connected is lost, with a local kernel too
    printed: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    session.client.execute_interactive(
        "print(input())",
        timeout=30,
        allow_stdin=True,
        output_hook=hook,
        stdin_hook=lambda message: session.client.input("said"),
    )
    assert "".join(printed) == "said\n"
