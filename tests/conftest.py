"""Hosts to test on, kernelspecs that point at them, and the check that nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import settings
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from remote_provisioners.errors import HostError
from remote_provisioners.io_thread import close_io_thread, io_thread
from remote_provisioners.placement import host_table

from .clusters import ENGINES, ByCluster
from .rig import Host, Rig, open_rig
from .rig.slow_files import SlowFiles

for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    # A shell's background job ignores them, and so would every program that a test starts.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# `make test-all` chooses the second one.
settings.register_profile("short", deadline=None)
settings.register_profile("long", max_examples=2000, deadline=None)
settings.load_profile("short")

IPYKERNEL = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
SETTLE_SECONDS = 10.0
#: For one test with its fixtures; those of the engines start clusters.
TIMEOUT_SECONDS, ENGINES_TIMEOUT_SECONDS = 300.0, 600.0
#: A cell to be interrupted once it has printed. Not by one long sleep: a signal that comes between
#: Python's last look and the system call does not end that, 1 in 40 on a busy machine.
SLEEP = "import time; print('on', flush=True)\nwhile True: time.sleep(0.01)"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--conformance-table",
        action="store_true",
        help="write what the tests on engines have seen to docs/engines.md, spark-conformance.md",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its time limit.

    The limit is a signal. It is raised in the main thread, wherever that waits (for a loop, a
    thread or a process), so the test fails, its fixtures end what it has started, and the next
    test runs. The other method would end the whole process.
    """
    for item in items:
        if item.config.pluginmanager.has_plugin("timeout"):
            engines = item.nodeid.startswith(ENGINES)
            seconds = ENGINES_TIMEOUT_SECONDS if engines else TIMEOUT_SECONDS
            if settings.get_current_profile_name() == "long":
                seconds *= 3  # twenty times as many examples for a property
            item.add_marker(pytest.mark.timeout(seconds, method="signal"))


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCluster:
    return ByCluster(config, log)


def share(of_examples: float) -> int:
    """How many examples a property is tried with that takes long for each."""
    return max(1, round(settings.default.max_examples * of_examples))


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """Two real hosts, shared by the tests that break nothing."""
    with open_rig(2) as opened:
        yield opened


@pytest.fixture
def own_rig() -> Iterator[Rig]:
    """Three hosts of a test's own, to break as it likes; skips where faults cannot be made."""
    opened = open_rig(3)
    if not opened.faults:
        pytest.skip("needs root and network namespaces: hosts here have no faults to inject")
    with opened:
        yield opened


@pytest.fixture
def home(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be the user whose ~/.ssh knows the shared hosts."""
    return be_client(rig, monkeypatch)


def be_client(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be the user whose ~/.ssh knows the hosts of `rig`."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    return rig.home


@pytest.fixture
def slow_files(tmp_path: Path) -> Iterator[SlowFiles]:
    """A file system that answers as late as a test says."""
    try:
        mounted = SlowFiles(tmp_path / "slow")
    except OSError as error:
        pytest.skip(f"needs root and /dev/fuse: {error}")
    with contextlib.closing(mounted):
        yield mounted


def eventually(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait until `condition` holds; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.02)
    return value


def assert_readable(error: BaseException) -> str:
    """The text of an error of a start, as a dialog shows it that breaks no lines."""
    shown = getattr(error, "log_message", None)
    text = str(error)
    assert shown is None or shown.replace("%%", "%") == text
    long = [line for line in text.splitlines() if len(line) > 90 and " " in line.strip()]
    assert not long, long
    return text


def words(pattern: str) -> str:
    """The pattern for a text that may be broken into lines at any space."""
    return "(?s)" + pattern.replace(" ", r"\s+")


InstallSpec = Callable[..., str]


@pytest.fixture
def install_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallSpec:
    """Install a kernelspec of our provisioner; returns its name."""
    data = tmp_path / "jupyter"
    monkeypatch.setenv("JUPYTER_PATH", str(data))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter-data"))

    def install(
        hosts: Any = None,
        *,
        name: str = "remote",
        argv: list[str] | None = None,
        env: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None,
        files: dict[str, str] | None = None,
        **options: Any,
    ) -> str:
        if hosts is not None:
            options["remote_hosts"] = hosts
        options.setdefault("python", sys.executable)
        stanza = {"provisioner_name": "distributed-provisioner", "config": options}
        directory = data / "kernels" / name
        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "argv": argv or IPYKERNEL,
            "env": env or {},
            "display_name": name,
            "language": "python",
            "metadata": {"kernel_provisioner": stanza},
            **(spec or {}),
        }
        (directory / "kernel.json").write_text(json.dumps(content))
        for file, text in (files or {}).items():
            (directory / file).write_text(text)
        return name

    return install


def kernel_of(provisioner: Any) -> Any:
    """Its `RemoteKernel`: no application needs that, and tests look at its life and its pid."""
    return provisioner.kernel


class Session:
    """A kernel and a client of it, by the blocking manager."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.kernel_info(reply=True, timeout=30)

    def run(self, code: str, timeout: float = 30) -> str:
        """What `code` prints to stdout. Again, if it is aborted for an error of the one before:
        a kernel goes on a moment after that one's reply.
        """
        printed: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                printed.append("\n".join(message["content"]["traceback"]))

        status = "aborted"
        while status == "aborted":
            reply = self.client.execute_interactive(code, timeout=timeout, output_hook=hook)
            status = reply["content"]["status"]
        return "".join(printed)

    def value(self, expression: str) -> Any:
        """The value of `expression` in the kernel."""
        printed = self.run(f"import json; print(json.dumps({expression}))")
        try:
            return json.loads(printed)
        except ValueError:
            raise AssertionError(f"{expression} gave {printed!r}") from None

    @property
    def provisioner(self) -> Any:
        return self.manager.provisioner

    @property
    def kernel(self) -> Any:
        return kernel_of(self.provisioner)

    @property
    def agent(self) -> int:
        """The pid of its host's agent; 0 while the host cannot be reached."""
        with contextlib.suppress(HostError, TimeoutError):
            return int(io_thread().call_blocking(self.kernel.host.link(), 10).agent.pid)
        return 0

    @property
    def host(self) -> str:
        return str(self.kernel.spec.name)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


Start = Callable[..., Session]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start kernels by the blocking manager; they are shut down at the end."""
    sessions: list[Session] = []

    def started(name: str, config: Any = None, **kwargs: Any) -> Session:
        manager = KernelManager(
            kernel_name=name, kernel_spec_manager=KernelSpecManager(), config=config
        )
        manager.start_kernel(**kwargs)
        try:
            sessions.append(Session(manager))
        except BaseException:  # nobody else knows of it
            manager.shutdown_kernel(now=True)
            raise
        return sessions[-1]

    yield started
    for session in sessions:
        session.close()


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Nothing of the machine's Jupyter, and a temporary directory of the test's own."""
    tmp_path_factory.getbasetemp()  # pytest's own stays where it is
    for name in [*os.environ]:
        if name.startswith(("RP_", "KERNEL_", "JUPYTER_", "JPY_", "SSH_")):
            monkeypatch.delenv(name)
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # short: sockets live in it
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(host_table, "first_turn", lambda: 0)  # by chance in reality
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, clean_environment: Path) -> Iterator[None]:
    """After each test: no thread, descriptor, process or file of ours, here or on a host."""
    uses_hosts = bool({"rig", "own_rig", "home"} & set(request.fixturenames))
    hosts = _hosts(request) if uses_hosts else []
    ensure_event_loop()  # which jupyter_client's blocking classes make once and keep
    _forget_a_failure()
    before = _descriptors()
    yield
    close_io_thread()
    left: list[str] = []
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        left = [
            *_left_here(before, clean_environment),
            *(line for host in hosts for line in _left_on(host)),
        ]
        if not left:
            return
        time.sleep(0.05)
    show = ["sh", "-c", "cat /tmp/remote-provisioners-*/*/agent.log"]
    logs = [host.run(show, check=False) for host in hosts]
    logs += [log.read_text() for log in clean_environment.glob("remote-provisioners-*/*/agent.log")]
    for host in hosts:
        _clear(host)
    pytest.fail("\n".join(["left behind:", *left, "their agents' logs:", *logs]))


def _forget_a_failure() -> None:
    """Close what the traceback of a failed test before this one still holds: clients, contexts."""
    if hasattr(sys, "last_traceback"):
        del sys.last_type, sys.last_value, sys.last_traceback
        if hasattr(sys, "last_exc"):  # Python 3.12 and later
            del sys.last_exc
        gc.collect()
        zmq.Context.instance().destroy(linger=0)


def _hosts(request: pytest.FixtureRequest) -> list[Host]:
    fixture = "own_rig" if "own_rig" in request.fixturenames else "rig"
    return list(request.getfixturevalue(fixture).hosts)


def _descriptors() -> dict[str, str]:
    """The sockets, pipes and files that this process has open."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
    return found


def _left_here(before: dict[str, str], temporary: Path) -> list[str]:
    left = [t.name for t in threading.enumerate() if t.name == "remote-provisioners"]
    for number, target in _descriptors().items():
        if before.get(number) != target and not target.startswith(("/proc/", "/dev/pts")):
            left.append(f"descriptor {number}: {target}{_socket(target)}")
    for pattern in ("remote-provisioners-*", "rp-*"):
        for path in temporary.glob(pattern):
            left.append(str(path))
            with contextlib.suppress(FileNotFoundError):  # it goes at this moment
                left += [str(inside) for inside in path.rglob("*")]
    return left


def _socket(target: str) -> str:
    """What the system knows of a socket: addresses and state, or its path."""
    inode = target.removeprefix("socket:[").removesuffix("]")
    for table in ("unix", "tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            if inode in line.split()[6:]:
                return f" ({table}{line.partition(':')[2]})"
    return ""


def _left_on(host: Host) -> list[str]:
    left = [f"{host.name}: {p.pid} {' '.join(p.argv)}" for p in host.processes()]
    left += [
        f"{host.name}: {path}"
        for path in host.files("/tmp")
        if "remote-prov" in path and "-gpu-" not in path
    ]
    return left


def _clear(host: Host) -> None:
    """One test's leftovers are one test's failure."""
    pids = [str(process.pid) for process in host.processes()]
    host.run(["kill", "-KILL", *pids] if pids else ["true"], check=False)
    remains = "remote-provisioners-*"
    host.run(["find", "/tmp", "-maxdepth", "1", "-name", remains, "-exec", "rm", "-rf", "{}", "+"])
