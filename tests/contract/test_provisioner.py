"""Every method of the provisioner contract, over every transport, by real kernels."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_async
from traitlets.config import Config

from remote_provisioners.errors import (
    ConfigurationError,
    HostError,
    KernelLostError,
    KernelStartError,
    LaunchTimeoutError,
    StartCancelledError,
    UnauthorizedError,
)
from remote_provisioners.events import Event, Phase, StartProgress, events
from remote_provisioners.provisioner import DistributedProvisioner

from ..conftest import (
    SLEEP,
    InstallSpec,
    Session,
    Start,
    assert_readable,
    eventually,
    kernel_of,
    words,
)

FORMS = ["connection file", "launcher"]
LAUNCHER = [
    "python",
    "{resource_dir}/launch_ipykernel.py",
    "--kernel-id",
    "{kernel_id}",
    "--response-address",
    "{response_address}",
    "--public-key",
    "{public_key}",
]
KERNELSPECS = Path(__file__).parents[2] / "src/remote_provisioners/kernelspecs"


def launcher_spec() -> dict:
    script = KERNELSPECS / "python_distributed_launcher/launch_ipykernel.py"
    return {"argv": LAUNCHER, "files": {"launch_ipykernel.py": script.read_text()}}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> dict:
    return {} if request.param == "connection file" else launcher_spec()


@pytest.fixture
def session(host: str, install_spec: InstallSpec, start: Start) -> Session:
    return start(install_spec(host))


def test_a_kernel_through_its_life(
    host: str, form: dict, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host, **form))
    provisioner = session.provisioner
    assert isinstance(provisioner, DistributedProvisioner)
    assert session.value("1 + 1") == 2
    assert session.manager.is_alive()
    assert provisioner.has_process
    assert session.value("__import__('os').getpid()") == session.kernel.pid
    endpoints = (session.manager.ip, session.manager.ports, session.manager.session.key)
    first_host, first_pid = session.host, session.kernel.pid

    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value("__import__('os').getpid()") != first_pid
    assert session.host == first_host
    assert (session.manager.ip, session.manager.ports, session.manager.session.key) == endpoints

    session.manager.shutdown_kernel()
    assert not session.manager.is_alive()
    assert not session.manager.has_kernel


def test_restart_now_keeps_the_endpoints(session: Session) -> None:
    session.run("x = 1")
    session.manager.restart_kernel(now=True)
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value("'x' in globals()") is False


def test_a_killed_kernel_has_ended(session: Session) -> None:
    """At once: a manager that finds it alive looks again only after 100 ms."""
    asyncio.run(session.provisioner.kill())
    assert not session.manager.is_alive()


def test_interrupt_by_signal(session: Session) -> None:
    interrupted = interrupt(session)
    assert "KeyboardInterrupt" in interrupted


def test_interrupt_by_message(host: str, install_spec: InstallSpec, start: Start) -> None:
    session = start(install_spec(host, spec={"interrupt_mode": "message"}))
    assert "KeyboardInterrupt" in interrupt(session)
    assert session.value("1") == 1


def interrupt(session: Session) -> str:
    """Interrupt a sleeping cell; returns the error that it ended with."""
    message_id = session.client.execute(SLEEP)
    while True:
        message = session.client.get_iopub_msg(timeout=10)
        if message["content"].get("text") == "on\n":
            break
    session.manager.interrupt_kernel()
    while True:
        reply = session.client.get_shell_msg(timeout=10)
        if reply["parent_header"].get("msg_id") == message_id:
            return str(reply["content"].get("ename"))


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; os._exit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_the_real_exit_code(session: Session, code: str, exit_code: int) -> None:
    session.client.execute(code)
    provisioner = session.provisioner

    async def waited() -> int | None:
        return await asyncio.wait_for(provisioner.wait(), 10)

    assert asyncio.run(waited()) == exit_code
    assert asyncio.run(provisioner.poll()) == exit_code
    assert not session.manager.is_alive()
    assert not provisioner.has_process


def test_signals_reach_the_whole_group(session: Session) -> None:
    child = session.value(
        "(__import__('subprocess').Popen(['sleep', '300']).pid, __import__('os').getpgid(0))"
    )
    assert child[1] == session.kernel.pid
    asyncio.run(session.provisioner.kill())
    # The check that nothing is left, on hosts as well, is the assertion.


def test_what_a_kernel_started_ends_with_it(session: Session) -> None:
    session.run("import subprocess; subprocess.Popen(['sleep', '300'])")
    session.client.execute("import os; os._exit(0)")
    eventually(lambda: not session.manager.is_alive())


def test_terminate_can_be_caught(session: Session) -> None:
    session.run("import os, signal; signal.signal(signal.SIGTERM, lambda *a: os._exit(42))")
    asyncio.run(session.provisioner.terminate())
    assert asyncio.run(session.provisioner.wait()) == 42


def test_tunnels_move_between_calls_of_a_blocking_client(session: Session) -> None:
    """The manager's loop does not run now; the heartbeat has to go on all the same."""
    with zmq.Context() as context, context.socket(zmq.REQ) as heart:
        heart.connect(session.client.hb_channel.address)
        for _ in range(3):
            heart.send(b"ping")
            assert heart.poll(10_000)
            assert heart.recv() == b"ping"


def test_under_the_async_manager(host: str, install_spec: InstallSpec) -> None:
    name = install_spec(host)

    async def body() -> None:
        manager = AsyncKernelManager(kernel_name=name)
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        reply = await client.execute_interactive("2 * 21", timeout=30, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok"
        assert await manager.is_alive()
        await manager.restart_kernel()
        await client.wait_for_ready(timeout=30)
        await manager.shutdown_kernel()
        assert not await manager.is_alive()
        client.stop_channels()

    asyncio.run(body())


def test_starts_at_the_same_time(host: str, install_spec: InstallSpec) -> None:
    name = install_spec(host)

    async def body() -> None:
        managers = [AsyncKernelManager(kernel_name=name) for _ in range(5)]
        await asyncio.gather(*(manager.start_kernel() for manager in managers))
        pids = {kernel_of(manager.provisioner).pid for manager in managers}
        assert len(pids) == 5
        await asyncio.gather(*(manager.shutdown_kernel(now=True) for manager in managers))

    asyncio.run(body())


def test_a_cancelled_start_leaves_nothing(host: str, install_spec: InstallSpec) -> None:
    name = install_spec(host, argv=["python", "-c", "import time; time.sleep(60)"])

    async def body() -> None:
        manager = AsyncKernelManager(kernel_name=name)
        starting = asyncio.ensure_future(manager.start_kernel())
        assert await asyncio.to_thread(has_a_process.wait, 20)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    has_a_process = threading.Event()

    def heard(event: Event) -> None:
        if isinstance(event, StartProgress) and event.phase is Phase.LAUNCHING:
            has_a_process.set()

    stop = events.listen(heard)
    try:
        asyncio.run(body())
    finally:
        stop()


async def launching(manager: AsyncKernelManager) -> None:
    """Wait until the manager's start waits for the host."""
    while manager.provisioner is None or not manager.provisioner.own_start.in_progress:
        await asyncio.sleep(0)


def test_a_shutdown_during_a_start(host: str, install_spec: InstallSpec) -> None:
    name = install_spec(host, argv=["python", "-c", "import time; time.sleep(60)"])

    async def body() -> None:
        manager = AsyncKernelManager(kernel_name=name)
        starting = asyncio.ensure_future(manager.start_kernel())
        await launching(manager)
        await manager.shutdown_kernel()
        with pytest.raises(StartCancelledError):
            await starting
        assert not await manager.is_alive()

    asyncio.run(body())


def test_a_restart_during_a_start(host: str, install_spec: InstallSpec) -> None:
    name = install_spec(host)

    async def body() -> None:
        manager = AsyncKernelManager(kernel_name=name)
        starting = asyncio.ensure_future(manager.start_kernel())
        await launching(manager)
        await manager.restart_kernel(now=True)
        with pytest.raises(StartCancelledError):
            await starting
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=30)
        client.stop_channels()
        await manager.shutdown_kernel(now=True)

    asyncio.run(body())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_no_part_in_it(session: Session) -> None:
    """A worker that multiprocessing forks: its use of the manager ends nothing of the parent's."""
    session.run("kept = 'kept'")
    child = os.fork()
    if not child:
        try:
            session.manager.shutdown_kernel(now=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert session.value("kept") == "kept"
    assert session.manager.is_alive()


def test_another_process_takes_charge(session: Session) -> None:
    """get_provisioner_info and load_provisioner_info: what an application may persist."""
    info = asyncio.run(session.provisioner.get_provisioner_info())
    session.run("kept = 'kept'")
    other = DistributedProvisioner(
        kernel_id="to be loaded", kernel_spec=session.manager.kernel_spec, parent=session.manager
    )
    asyncio.run(other.load_provisioner_info(info))
    assert other.kernel_id == session.manager.kernel_id
    client = session.manager.client(
        ip=other.connection_info["ip"],
        **{k: v for k, v in other.connection_info.items() if k.endswith("_port")},
    )
    client.start_channels()
    session.client.stop_channels()
    session.client = client
    assert session.value("kept") == "kept"
    assert asyncio.run(other.poll()) is None
    asyncio.run(session.provisioner.load_provisioner_info(info))  # and back, for its end
    session.manager.shutdown_kernel(now=True)
    asyncio.run(other.cleanup())


def test_nobody_takes_charge_of_what_is_not_there(session: Session) -> None:
    info = asyncio.run(session.provisioner.get_provisioner_info())
    info["kernel_id"] = "gone"
    other = DistributedProvisioner(
        kernel_id="gone", kernel_spec=session.manager.kernel_spec, parent=session.manager
    )
    with pytest.raises(KernelLostError, match="gone"):
        asyncio.run(other.load_provisioner_info(info))


def test_resolve_path(host: str, install_spec: InstallSpec, start: Start) -> None:
    session = start(install_spec(host), env={"KERNEL_WORKING_DIR": "/usr"})
    assert session.value("__import__('os').getcwd()") == "/usr"
    home = session.value("__import__('os').path.expanduser('~')")
    assert session.manager.resolve_path("lib") == "/usr/lib"
    assert session.manager.resolve_path("/tmp/../usr/lib") == "/usr/lib"
    assert session.manager.resolve_path("~") == home
    assert session.manager.resolve_path("no-such-file") is None

    async def as_jupyter_server_asks() -> Any:
        return await ensure_async(session.manager.resolve_path("lib"))

    assert asyncio.run(as_jupyter_server_asks()) == "/usr/lib"


def test_a_program_that_is_not_there(host: str, install_spec: InstallSpec, start: Start) -> None:
    name = install_spec(host, argv=["no-such-program", "{connection_file}"])
    with pytest.raises(FileNotFoundError, match="program 'no-such-program' is not on PATH") as info:
        start(name)
    assert isinstance(info.value, KernelStartError)
    assert info.value.host == host


def test_shutdown_wait_time(session: Session) -> None:
    assert session.provisioner.get_shutdown_wait_time(5.0) == 5.0


# -- the environment -----------------------------------------------------------------------


def test_the_environment_is_the_hosts_the_specs_and_the_requests(
    host: str, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_SECRET", "x")
    monkeypatch.setenv("KERNEL_OF_SERVER", "x")
    name = install_spec(host, env={"SPEC": "${HOME}/$KERNEL_A", "PATH": "/opt/x:${PATH}"})
    session = start(name, env={"KERNEL_A": "$(touch /tmp/pwned) ${HOME}", "OTHER": "x"})
    environ = session.value("dict(__import__('os').environ)")
    assert environ["SPEC"] == environ["HOME"] + "/$(touch /tmp/pwned) ${HOME}"
    assert environ["PATH"].startswith("/opt/x:/")
    assert environ["KERNEL_A"] == "$(touch /tmp/pwned) ${HOME}"
    assert environ["KERNEL_ID"] == session.manager.kernel_id
    assert not {"SERVER_SECRET", "KERNEL_OF_SERVER", "OTHER", "RP_LAUNCH_SECRET"} & set(environ)
    assert not [name for name in environ if name.startswith("SSH_")]
    assert session.value("__import__('os').path.exists('/tmp/pwned')") is False


HOSTILE = [
    "a'b\"c",
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    "a\nb;touch /tmp/pwned",
    "${HOME}",
    "\\",
    "é\u2028",
    " lead",
    "{connection_file}",
    "-f",
    "a" * 100_000,
]


def test_hostile_values_arrive_whole(host: str, install_spec: InstallSpec, start: Start) -> None:
    request = {f"KERNEL_{number}": value for number, value in enumerate(HOSTILE)}
    argv = [
        "python",
        "-c",
        "import sys; from ipykernel.kernelapp import launch_new_instance;"
        "ARGV = sys.argv[3:]; launch_new_instance(['-f', sys.argv[1]], user_ns={'ARGV': ARGV})",
        "{connection_file}",
        "ipykernel",
        *[v for v in HOSTILE if "{" not in v],
    ]
    session = start(install_spec(host, argv=argv), env=request)
    environ = session.value("dict(__import__('os').environ)")
    assert {name: environ[name] for name in request} == request
    assert session.value("ARGV") == [v for v in HOSTILE if "{" not in v]
    assert session.value("__import__('os').path.exists('/tmp/pwned')") is False


def test_the_key_is_in_no_argv_and_no_readable_file(session: Session) -> None:
    key = session.manager.session.key.decode()
    code = """
import glob, json, os
def argvs():
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try: yield open(path).read()
        except OSError: pass
def modes():
    parent = os.environ.get('TMPDIR', '/tmp')
    top = glob.glob('%s/remote-provisioners-%d' % (parent, os.getuid()))
    for directory, names, files in os.walk(top[0]):
        yield [directory, oct(os.stat(directory).st_mode & 0o077)]
print(json.dumps([any(KEY in a for a in argvs()), [m for m in modes() if m[1] != '0o0']]))
""".replace("KEY", repr(key))
    assert session.run(code) == "[false, []]\n"


def test_the_working_directory(
    host: str, install_spec: InstallSpec, start: Start, tmp_path: Path
) -> None:
    name = install_spec(host)
    getcwd = "__import__('os').getcwd()"
    assert start(name, cwd="/usr/lib").value(getcwd) == "/usr/lib"
    both = start(name, cwd="/usr/lib", env={"KERNEL_WORKING_DIR": "/etc"})
    assert both.value(getcwd) == "/etc"
    neither = start(name, cwd="/no/such", env={"KERNEL_WORKING_DIR": "/nor/this"})
    assert neither.value(getcwd) == neither.value("__import__('os').path.expanduser('~')")


def test_the_hook_is_read_once(host: str, install_spec: InstallSpec, start: Start) -> None:
    hook = (
        "echo noise; export HOOKED=\"it's $((40+2))\" MULTI=$'a\\nb'; date +%s%N > /dev/null;"
        "export WHEN=$(date +%s%N)"
    )
    name = install_spec(host, environment_hook=hook)
    first, second = start(name), start(name)
    read = "[__import__('os').environ.get(n) for n in ('HOOKED', 'MULTI', 'WHEN')]"
    assert first.value(read)[:2] == ["it's 42", "a\nb"]
    assert first.value(read) == second.value(read)


def test_python_of_the_hook(
    host: str, install_spec: InstallSpec, start: Start, tmp_path: Path
) -> None:
    """`python` in argv is found on the PATH that the hook sets, when none is configured."""
    directory = os.path.dirname(__import__("sys").executable)
    name = install_spec(host, environment_hook=f"export PATH={directory}:$PATH", python={"x": "y"})
    assert start(name).value("__import__('sys').executable").startswith(directory)


def test_exec_restores_signals_and_umask(session: Session) -> None:
    code = (
        "__import__('subprocess').check_output(['sh', '-c',"
        " 'grep -E \"SigIgn|SigBlk\" /proc/self/status; umask'], text=True).split()"
    )
    _, blocked, _, ignored, umask = session.value(code)
    # The signals that have a name: those above are the C library's own.
    assert [int(mask, 16) & 0x7FFFFFFF for mask in (blocked, ignored)] == [0, 0]
    assert umask == "0022"


def test_a_server_under_nohup(install_spec: InstallSpec, start: Start) -> None:
    """Its kernels do not ignore the signal that it ignores."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        session = start(install_spec("localhost"))
    finally:
        signal.signal(signal.SIGHUP, before)
    session.run("import signal")
    assert session.value("int(signal.getsignal(signal.SIGHUP))") == signal.SIG_DFL


# -- what bad input gets -------------------------------------------------------------------


def refused(start: Start, name: str, within: float = 5.0, **kwargs: object) -> str:
    """The text of the error that the start ends with, which has to come fast."""
    began = time.monotonic()
    with pytest.raises(KernelStartError) as error:
        start(name, **kwargs)
    assert time.monotonic() - began < within
    return assert_readable(error.value)


def test_no_such_program(host: str, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec(host, argv=["no-such-kernel", "{connection_file}"]))
    assert text.startswith(f"host {host}: program 'no-such-kernel' is not on PATH")


def test_no_kernel_package(host: str, install_spec: InstallSpec, start: Start) -> None:
    text = refused(
        start, install_spec(host, argv=["python", "-m", "no_kernel", "{connection_file}"])
    )
    assert f"host {host}: the kernel ended at once with exit code 1" in text
    assert "No module named no_kernel" in text


@pytest.mark.parametrize("form_argv", [[], ["{response_address}"]])
def test_ends_at_once(
    host: str, install_spec: InstallSpec, start: Start, form_argv: list[str]
) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(9)"
    text = refused(start, install_spec(host, argv=["python", "-c", code, *form_argv]))
    assert "exit code 9" in text
    assert text.endswith(("one\ntwo", "two\none"))


@pytest.mark.parametrize("form_argv", [[], ["{response_address}"]])
def test_never_listens(
    host: str, install_spec: InstallSpec, start: Start, form_argv: list[str]
) -> None:
    argv = ["sh", "-c", "echo hello; exec sleep 300", *form_argv]
    name = install_spec(host, argv=argv, launch_timeout=3.0)
    with pytest.raises(LaunchTimeoutError) as error:
        start(name)
    text = assert_readable(error.value)
    assert f"host {host}: the kernel did not open its ports within 3 s" in text
    assert text.endswith("hello")


def test_the_requests_launch_timeout(host: str, install_spec: InstallSpec, start: Start) -> None:
    name = install_spec(host, argv=["python", "-c", "import time; time.sleep(300)"])
    with pytest.raises(LaunchTimeoutError, match=r"within 1 s"):
        start(name, env={"KERNEL_LAUNCH_TIMEOUT": "1"})


def test_a_launcher_is_given_a_script(host: str, install_spec: InstallSpec, start: Start) -> None:
    """`jupyter run script.py` gives the kernel this name as well."""
    session = start(install_spec(host, **launcher_spec()), extra_arguments=["script.py"])
    assert session.value("6 * 7") == 42


def test_a_launcher_with_a_wrong_secret(host: str, install_spec: InstallSpec, start: Start) -> None:
    form = launcher_spec()
    script = form["files"]["launch_ipykernel.py"].replace(
        'os.environ.pop(SECRET_VARIABLE, "")', '"guessed"'
    )
    assert "guessed" in script
    name = install_spec(host, argv=LAUNCHER, files={"launch_ipykernel.py": script})
    text = refused(start, name)
    said = "refused by the response address: not the launcher that is awaited"
    assert re.search(words(said), text)


def test_the_hook_fails(host: str, install_spec: InstallSpec, start: Start) -> None:
    name = install_spec(host, environment_hook="echo no such env >&2; false")
    text = refused(start, name)
    assert text.startswith(f"host {host}: the environment hook failed: exit code 1: no such env")


def test_unauthorized(host: str, install_spec: InstallSpec, start: Start) -> None:
    name = install_spec(host, authorized_users="bob")
    with pytest.raises(UnauthorizedError, match="alice"):
        start(name, env={"KERNEL_USERNAME": "alice"})
    with pytest.raises(UnauthorizedError, match="root"):
        start(install_spec(host), env={"KERNEL_USERNAME": "root"})
    assert start(name, env={"KERNEL_USERNAME": "bob"}).value("1") == 1


@pytest.mark.parametrize("where", ["env", "argv", "host"])
def test_nul_is_refused(host: str, where: str, install_spec: InstallSpec, start: Start) -> None:
    name = install_spec(host, argv=["python", "a\0b"] if where == "argv" else None)
    variable = "KERNEL_REMOTE_HOST" if where == "host" else "KERNEL_X"
    with pytest.raises(ConfigurationError, match="NUL"):
        start(name, env={variable: "a\0b"} if where != "argv" else {})


def test_options_from_a_bare_manager(host: str, install_spec: InstallSpec, start: Start) -> None:
    config = Config()
    config.RemoteProvisionerConfigMixin.remote_hosts = host
    assert start(install_spec(), config=config).host == host


def test_an_error_of_a_start_has_no_frames_of_ours(
    install_spec: InstallSpec, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Papermill and others print all of them, above the message."""
    with pytest.raises(HostError) as info:
        start(install_spec("no-such-host.invalid"))
    ours = [entry for entry in info.traceback if "remote_provisioners" in str(entry.path)]
    assert len(ours) <= 1
    assert info.value.__suppress_context__
    printed = "".join(traceback.format_exception(info.value))
    said = printed.splitlines()[-2:]
    assert said[0].endswith("the name does not resolve (Name or service not known).")
    assert said[1].startswith("Check the spelling")
    assert "direct cause" not in printed
    assert "During handling" not in printed
