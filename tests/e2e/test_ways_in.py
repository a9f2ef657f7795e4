"""Each way into a host, by its real parts; and what each says that cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import (
    AuthenticationError,
    ConfigurationError,
    HostKeyError,
    LoginWantedError,
    ProgramNotFoundError,
    RemoteProvisionerError,
    RunAsError,
    UnknownHostError,
    UnreachableError,
    UnusablePythonError,
)
from remote_provisioners.files.errors import FileError
from remote_provisioners.files.host_files import HostFiles
from remote_provisioners.files.pool import file_pool
from remote_provisioners.hosts.transport import command, connect
from remote_provisioners.hosts.transport.by_openssh import transport as openssh
from remote_provisioners.hosts.transport.ssh import login_errors
from remote_provisioners.io_thread import close_io_thread, io_thread
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.way_in import COMMAND, WayIn
from remote_provisioners.provisioner import DistributedProvisioner

from ..conftest import (
    InstallSpec,
    Session,
    Start,
    assert_readable,
    be_client,
    eventually,
    kernel_of,
)
from ..contract.test_ports import exchange, listen
from ..rig import Host, Rig
from ..unit.test_agent_on_old_python import FOUND, supported
from .applications import Applications


def refused(
    start: Start,
    name: str,
    error: type[RemoteProvisionerError],
    seconds: float = 4.5,
    **kwargs: object,
) -> str:
    """What is said where a kernel cannot be started, in time and in readable lines."""
    began = time.monotonic()
    with pytest.raises(error) as raised:
        start(name, **kwargs)
    assert type(raised.value) is error
    assert time.monotonic() - began < seconds
    return assert_readable(raised.value)


# -- OpenSSH's own client --------------------------------------------------------------------------


@pytest.fixture
def by_openssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RP_CONNECT", "openssh")
    monkeypatch.setattr(login_errors, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(login_errors, "LOGIN_SECONDS", 3.0)


@pytest.mark.usefixtures("by_openssh", "home")
class TestOpenSSHRefuses:
    def test_an_unknown_name(self, rig: Rig, install_spec: InstallSpec, start: Start) -> None:
        text = refused(start, install_spec("no-such-host.invalid"), UnknownHostError)
        assert text.startswith("host no-such-host.invalid: the name no-such-host.invalid does not")

    def test_a_refused_port(self, rig: Rig, install_spec: InstallSpec, start: Start) -> None:
        text = refused(start, install_spec("127.0.0.1:1"), UnreachableError)
        assert text == "host 127.0.0.1:1: port 1 refuses connections: is sshd running there?"

    def test_an_unknown_key(self, rig: Rig, install_spec: InstallSpec, start: Start) -> None:
        known = rig.client.known_hosts
        kept = known.read_text()
        known.write_text("")
        try:
            text = refused(start, install_spec(rig.hosts[0].target), HostKeyError)
        finally:
            known.write_text(kept)
        assert f"the host key is unknown.\nConnect once by `ssh {rig.hosts[0].target}`" in text

    def test_a_changed_key(self, rig: Rig, install_spec: InstallSpec, start: Start) -> None:
        known = rig.client.known_hosts
        kept = known.read_text()
        first, second = rig.hosts[:2]
        known.write_text(kept.replace(first.host_key, second.host_key))
        try:
            text = refused(start, install_spec(first.target), HostKeyError)
        finally:
            known.write_text(kept)
        assert "the host key has CHANGED" in text

    def test_a_revoked_key(
        self, rig: Rig, install_spec: InstallSpec, start: Start, tmp_path: Path
    ) -> None:
        host = rig.hosts[0]
        revoked = tmp_path / "revoked"
        revoked.write_text(host.host_key + "\n")
        with configured(rig, f"RevokedHostKeys {revoked}"):
            text = refused(start, install_spec(host.target), HostKeyError)
        assert "is REVOKED" in text

    def test_a_user_that_is_not_checked_by_her_configuration(
        self, rig: Rig, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """StrictHostKeyChecking no is hers to say; the operator may insist."""
        host = rig.hosts[0]
        lines = "StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null"
        with configured(rig, lines):
            assert start(install_spec(host.target)).value("1") == 1
            text = refused(
                start, install_spec(host.target, name="strict", strict_host_keys=True), HostKeyError
            )
        assert "the host key is unknown" in text

    def test_no_key(self, rig: Rig, install_spec: InstallSpec, start: Start) -> None:
        host = rig.hosts[0]
        host.refuse_keys()
        try:
            text = refused(start, install_spec(host.target), AuthenticationError)
        finally:
            host.accept_keys()
        assert "none of our keys is accepted" in text
        assert "(methods: publickey)" in text

    def test_a_configuration_that_cannot_be_read(
        self, rig: Rig, install_spec: InstallSpec, start: Start
    ) -> None:
        with configured(rig, "NoSuchOption yes"):
            text = refused(start, install_spec(rig.hosts[0].target), UnreachableError)
        assert "the SSH configuration: " in text
        assert "nosuchoption" in text.lower()

    def test_no_python(self, rig: Rig, install_spec: InstallSpec, start: Start) -> None:
        name = install_spec(rig.hosts[0].target, python="/no/such/python")
        text = refused(start, name, ProgramNotFoundError)  # another one runs the agent
        assert "'/no/such/python' does not exist" in text

    def test_no_ssh_program(
        self, rig: Rig, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openssh, "PROGRAM", "no-such-ssh")
        text = refused(start, install_spec(rig.hosts[0].target), UnreachableError)
        assert "cannot run the program 'no-such-ssh'" in text


@contextlib.contextmanager
def configured(rig: Rig, lines: str) -> Iterator[None]:
    """More of ~/.ssh/config, which comes first."""
    config = rig.client.config
    kept = config.read_text()
    config.write_text(f"Host *\n    {lines}\n\n{kept}")
    try:
        yield
    finally:
        config.write_text(kept)


@pytest.mark.usefixtures("by_openssh")
def test_a_silent_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.drop()
    text = refused(start, install_spec(host.target), UnreachableError)
    assert "no answer within 2 s: down, or a firewall drops packets" in text
    host.heal()


@pytest.mark.usefixtures("by_openssh", "home")
def test_one_connection_a_host(rig: Rig, install_spec: InstallSpec, start: Start) -> None:
    host = rig.hosts[0]
    name = install_spec(host.target)
    sessions = [start(name) for _ in range(3)]
    assert [session.value("6 * 7") for session in sessions] == [42] * 3
    assert host.tcp_connections() == 1


@pytest.mark.usefixtures("by_openssh")
def test_the_cipher(
    own_rig: Rig, install_spec: InstallSpec, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AES first where the processor has it, and the user's own choice before that."""
    monkeypatch.setattr(openssh, "has_aes", lambda: True)
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.sshd_option(LogLevel="DEBUG1")
    assert start(install_spec(host.target)).value("6 * 7") == 42
    assert "cipher: aes128-gcm" in host.log()
    assert "cipher: aes256-ctr" not in host.log()
    with configured(own_rig, "Ciphers aes256-ctr,aes128-ctr"):
        name = install_spec(f"root@{host.target}", name="chosen")
        assert start(name).value("6 * 7") == 42
    assert "cipher: aes256-ctr" in host.log()


# -- a second factor -------------------------------------------------------------------------------

CHECK_CODE = """#!/bin/sh
code=$(tr -d '\\0')
[ "$code" = 271828 ]
"""
PAM = """auth required pam_exec.so quiet expose_authtok {check}
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""


@pytest.fixture
def second_factor(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host that asks for a code besides the key, and a client whose logins are shared."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    # Where sshd's own modules look; this host's alone.
    host.write("/run/check-code", CHECK_CODE, 0o755)
    host.write("/run/pam-sshd", PAM.format(check="/run/check-code"))
    host.run(["mount", "--bind", "/run/pam-sshd", "/etc/pam.d/sshd"])
    host.sshd_option(
        UsePAM="yes",
        KbdInteractiveAuthentication="yes",
        PermitRootLogin="yes",
        AuthenticationMethods="publickey,keyboard-interactive",
    )
    path = own_rig.client.config.parent / "m-%C"
    config = own_rig.client.config
    config.write_text(
        f"Host *\n    ControlMaster auto\n    ControlPath {path}\n    ControlPersist 1h\n\n"
        + config.read_text().replace("BatchMode yes", "")
    )
    yield host
    close_io_thread()  # it says good-bye to the agent, over that connection
    log_out(own_rig, host)


def log_in(host: Host, code: str, prompt: bytes = b"Password: ") -> tuple[int, str]:
    """`jupyter remote login`, in a terminal where somebody answers; its exit code, its words."""
    words = f"{sys.executable} -m remote_provisioners.cli.app login {host.target}"
    with subprocess.Popen(
        ["script", "-qec", words, "/dev/null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as terminal:
        assert terminal.stdin is not None
        assert terminal.stdout is not None
        said = b""
        answered = 0
        while piece := os.read(terminal.stdout.fileno(), 4096):
            said += piece
            if said.count(prompt) > answered:  # what is typed before that is thrown away
                answered += 1
                terminal.stdin.write(code.encode() + b"\n")
                terminal.stdin.flush()
        return terminal.wait(20), said.decode()


def log_out(rig: Rig, host: Host) -> None:
    subprocess.run(
        [*rig.ssh, "-O", "exit", host.target], capture_output=True, timeout=10, check=False
    )


def test_a_second_factor(
    own_rig: Rig,
    second_factor: Host,
    install_spec: InstallSpec,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = second_factor
    name = install_spec(host.target)
    text = refused(start, name, LoginWantedError)
    assert "but the host wants more:\nkeyboard-interactive" in text
    assert f"jupyter remote login {host.target}" in text

    status, said = log_in(host, "1")
    assert status == 1, said
    status, said = log_in(host, "271828")
    assert status == 0, said
    assert f"logged in to {host.target}: it lasts until" in said
    assert "1 hour after the last kernel" in said

    session = eventually(lambda: started(start, name), 10)
    assert session.value("6 * 7") == 42
    session.run("kept = 1")
    failed = host.log().count("Failed")
    log_out(own_rig, host)
    eventually(lambda: session.kernel.life.state.name == "UNREACHABLE")
    time.sleep(2.5)  # attempts are made, and no login is tried: accounts are locked for less
    assert host.log().count("Failed") == failed
    assert host.log().count("Postponed") <= 3
    listed = subprocess.run(
        [sys.executable, "-m", "remote_provisioners.cli.app", "hosts", host.target],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "jupyter remote login" in listed.stdout, listed
    assert log_in(host, "271828")[0] == 0
    eventually(lambda: session.kernel.life.state.name == "RUNNING", 15)
    assert session.value("kept") == 1


def started(start: Start, name: str) -> Session | None:
    with contextlib.suppress(AuthenticationError):
        return start(name)
    return None


def test_login_without_a_shared_connection(
    rig: Rig, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = log_in(rig.hosts[0], "")
    assert status == 1
    assert "has no ControlPath" in said
    assert "ControlMaster auto" in said
    monkeypatch.setenv("RP_CONNECT", "asyncssh")
    status, said = log_in(rig.hosts[0], "")
    assert status == 1
    assert "asyncssh (option `connect`), which cannot use a login" in said


def test_login_with_settings_for_terminals(rig: Rig, home: Path) -> None:
    host = rig.hosts[0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        forward = f"LocalForward 127.0.0.1:{taken.getsockname()[1]} localhost:22"
        lines = [f"ControlPath {home}/.ssh/m-%C", "ForkAfterAuthentication yes", forward]
        with configured(rig, "\n    ".join([*lines, "ExitOnForwardFailure yes"])):
            try:
                status, said = log_in(host, "")
            finally:
                log_out(rig, host)
    assert status == 0, said


# -- another user ----------------------------------------------------------------------------------

#: As docs/ways-in.md has it.
SUDOERS = """Defaults secure_path="/usr/sbin:/usr/bin:/sbin:/bin"
alice ALL=(bob, carol) NOPASSWD: /usr/bin/python3 -I -S -c *
"""


@pytest.fixture
def site(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that alice, a service account, logs in to; she may become bob and carol."""
    if shutil.which("sudo") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("needs sudo, and a Python of the system")
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    for number, name in enumerate(("bob", "carol", "dave"), 20100):
        home = f"/run/home-{name}"
        host.run(["sh", "-c", f"echo '{name}:x:{number}:{number}::{home}:/bin/bash' >>/etc/passwd"])
        host.run(["sh", "-c", f"echo '{name}:x:{number}:' >>/etc/group"])
        host.run(["sh", "-c", f"echo '{name}:*:20000::::::' >>/etc/shadow"])
        host.run(["install", "-d", "-m", "700", "-o", str(number), "-g", str(number), home])
    host.write("/run/sudoers", SUDOERS, 0o440)
    host.run(["mount", "--bind", "/run/sudoers", "/etc/sudoers"])
    monkeypatch.setenv("RP_RUN_AS", "{username}")
    return host


@pytest.mark.parametrize("connect", ["asyncssh", "openssh"])
def test_each_user_has_kernels_of_her_own(
    connect: str,
    site: Host,
    install_spec: InstallSpec,
    start: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    name = install_spec(f"alice@{site.target}", connect=connect)
    bob = start(name, env={"KERNEL_USERNAME": "bob"})
    carol = start(name, env={"KERNEL_USERNAME": "carol"})
    who = "[__import__('getpass').getuser(), __import__('os').getcwd(), __import__('os').getuid()]"
    assert bob.value(who) == ["bob", "/run/home-bob", 20100]
    assert carol.value(who) == ["carol", "/run/home-carol", 20101]
    # Carol looks for all that is bob's: his agent's directory, sockets, files.
    carol.run("import os, signal, socket, glob")
    assert carol.value("os.path.isdir('/tmp/remote-provisioners-20100')")
    look = "[p for d in ('/tmp/remote-provisioners-20100',) for p in glob.glob(d + '/*/*')]"
    assert carol.value(look) == []
    assert "PermissionError" in carol.run("os.listdir('/tmp/remote-provisioners-20100')")
    directory = bob.kernel.host.directory
    reach = f"s = socket.socket(socket.AF_UNIX); s.connect('{directory}/agent.sock')"
    assert "PermissionError" in carol.run(reach)
    pid = bob.kernel.pid
    assert "PermissionError" in carol.run(f"os.kill({pid}, signal.SIGKILL)")
    assert "PermissionError" in carol.run(f"open('/proc/{pid}/environ').read()")
    assert bob.value("6 * 7") == 42
    assert {p.user for p in site.processes() if "agent.pyz" in " ".join(p.argv)} == {
        "20100",
        "20101",
    }
    for name in ("bob", "carol"):
        assert f"host alice@{site.target} as {name}: connected" in caplog.text
        assert f"runs on alice@{site.target} as {name}, pid" in caplog.text


@pytest.mark.parametrize("connect", ["asyncssh", pytest.param("openssh", marks=pytest.mark.long)])
def test_each_user_has_files_and_ports_of_her_own(
    connect: str, site: Host, install_spec: InstallSpec, start: Start
) -> None:
    name = install_spec(f"alice@{site.target}", connect=connect)
    bob = start(name, env={"KERNEL_USERNAME": "bob"})
    carol = start(name, env={"KERNEL_USERNAME": "carol"})

    async def use(session: Session, work: Callable[[HostFiles], Awaitable[Any]]) -> Any:
        kernel = session.kernel
        return await work((await file_pool()).of(kernel.host, ["~", "/run/home-bob"]))

    async def write(files: HostFiles) -> str:
        async with files.write("~", "secret", mode=0o600) as writing:
            await writing.chunk(b"of bob")
            await writing.keep()
        return (await files.stat("~", "secret")).name

    async def read(files: HostFiles) -> str:
        with pytest.raises(FileError) as refused:
            await files.stat("/run/home-bob", "secret")
        return refused.value.code

    assert io_thread().call_blocking(use(bob, write), 60) == "secret"
    stat = "__import__('os').stat('/run/home-bob/secret')"
    assert bob.value(f"[{stat}.st_uid, {stat}.st_mode & 0o777]") == [20100, 0o600]
    assert io_thread().call_blocking(use(carol, read), 60) == "denied"
    of_bob, of_carol = listen(bob), listen(carol)
    assert exchange(bob, of_bob, b"ab") == exchange(carol, of_carol, b"ab") == b"ba"
    for session, port in ((bob, of_carol), (carol, of_bob)):
        assert b"no program of this user listens there" in exchange(session, port, b"ab")
    directory = bob.kernel.host.directory
    for sock in ("files.sock", "ports.sock"):
        reach = f"import socket; socket.socket(socket.AF_UNIX).connect('{directory}/{sock}')"
        assert "PermissionError" in carol.run(reach)


@pytest.mark.parametrize("connect", ["asyncssh", "openssh"])
def test_never_as_the_service_account(
    connect: str, site: Host, install_spec: InstallSpec, start: Start
) -> None:
    name = install_spec(f"alice@{site.target}", connect=connect)
    text = refused(start, name, RunAsError, env={"KERNEL_USERNAME": "dave"})
    assert "cannot run as dave" in text
    text = refused(start, name, RunAsError, env={"KERNEL_USERNAME": "nobody-here"})
    assert "cannot run as nobody-here" in text
    for hostile in ("-u", "bob carol", "$(id)", "../bob", "#0"):
        text = refused(start, name, ConfigurationError, env={"KERNEL_USERNAME": hostile})
        assert "which cannot be a user name" in text
    assert not [p for p in site.processes() if "agent.pyz" in " ".join(p.argv)]


def test_another_process_finds_it_as_its_user(
    site: Host, install_spec: InstallSpec, start: Start
) -> None:
    """What is kept of a kernel says whose it is."""
    name = install_spec(f"alice@{site.target}", connect="openssh")
    session = start(name, env={"KERNEL_USERNAME": "bob"})
    info = asyncio.run(session.provisioner.get_provisioner_info())
    other = DistributedProvisioner(
        kernel_id="to be loaded", kernel_spec=session.manager.kernel_spec, parent=session.manager
    )
    asyncio.run(other.load_provisioner_info(info))
    assert asyncio.run(other.poll()) is None
    assert kernel_of(other).spec.address.way.run_as == "bob"
    asyncio.run(other.cleanup())


def test_a_killed_server_s_kernels_come_back_as_their_users(
    applications: Applications, site: Host, install_spec: InstallSpec
) -> None:
    names = ["bob", "carol"]
    for name in names:
        install_spec(f"alice@{site.target}", name=name, connect="openssh", run_as=name)
    server = applications.server("server")
    kernels = {name: server.start_kernel(name) for name in names}
    for name, kernel in kernels.items():
        server.run(kernel, f"kept = '{name}'")
    server.process.kill()
    server.process.wait()
    server = applications.server("server")
    who = "import getpass; print(kept, getpass.getuser())"
    for name, kernel in kernels.items():
        assert server.run(kernel, who).strip() == f"{name} {name}"
        path = f"/api/kernels/{kernel}"
        assert server.ask("DELETE", path)[0] == 204
    eventually(lambda: not [p for p in site.processes() if "ipykernel" in " ".join(p.argv)], 10)


def test_a_login_for_each_user(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    name = install_spec("{username}@" + host.target, unauthorized_users=["nobody"])
    who = "__import__('getpass').getuser()"
    assert start(name, env={"KERNEL_USERNAME": "alice"}).value(who) == "alice"
    assert start(name, env={"KERNEL_USERNAME": "root"}).value(who) == "root"
    assert host.tcp_connections() == 2


# -- login shells ----------------------------------------------------------------------------------


@pytest.mark.parametrize("connect", ["asyncssh", "openssh"])
@pytest.mark.parametrize("shell", ["zsh", "tcsh", "fish", "busybox", "exec zsh", "noisy"])
def test_a_login_shell(
    shell: str,
    connect: str,
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.sshd_option(DisableForwarding="yes")  # so that asyncssh's way is a pipe too
    program = shutil.which(shell.rpartition(" ")[2])
    if shell == "noisy":
        host.write(f"{host.home}/.bashrc", "echo Welcome; printf 'no newline'; echo err >&2\n")
    elif program is None:
        pytest.skip(f"needs {shell}")
    elif shell == "exec zsh":
        host.write(f"{host.home}/.bashrc", f'exec {program} -c "$BASH_EXECUTION_STRING"\n')
    else:
        path = "/run/shell/sh" if shell == "busybox" else program
        if shell == "busybox":  # which it is by its name
            host.run(["mkdir", "/run/shell"])
            host.run(["ln", "-s", program, path])
        edit = f"s|^\\(root:.*\\):[^:]*$|\\1:{path}|"
        # The file is a mount of its own, and cannot be replaced.
        host.run(["sh", "-c", f"sed '{edit}' /etc/passwd >/run/p; cat /run/p >/etc/passwd"])
    assert start(install_spec(host.target, connect=connect)).value("6 * 7") == 42


# -- commands --------------------------------------------------------------------------------------


@pytest.fixture
def short_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "COMMAND_SECONDS", 2.0)


BAD_COMMANDS = {
    "not executable": (["/etc/passwd", "exec"], UnreachableError, "must begin with an executable"),
    "a lost interpreter": (["{lost}", "x"], UnreachableError, "the interpreter in its first line"),
    "no stdin": (
        ["sh", "-c", 'exec "$@" </dev/null', "x"],
        UnreachableError,
        "The command must pass stdin on, as `docker exec -i` and",
    ),
    "not there": (["no-such-program", "exec"], UnreachableError, "there is no program 'no-such-"),
    "ends at once": (
        ["sh", "-c", "echo container box is not running >&2; exit 1", "x"],
        UnreachableError,
        "it says: container box is not running",
    ),
    "prints for ever": (["sh", "-c", "exec yes", "x"], UnreachableError, "it prints without end"),
    "never prints": (["sh", "-c", "exec sleep 100", "x"], UnreachableError, "no answer within 2 s"),
    "reads and echoes": (["sh", "-c", 'echo "$@"; cat', "x"], UnreachableError, "no answer with"),
    "no Python": (
        ["env", "PATH=/nowhere"],
        UnusablePythonError,
        "no Python by `env PATH=/nowhere`: 'python3' is not there",
    ),
    "an old Python": (
        ["sh", "-c", "printf 'SyntaxError: invalid syntax\\n' >&2; exit 1", "x"],
        UnusablePythonError,
        "is too old: the agent needs Python 3.8 or later",
    ),
}


@pytest.mark.usefixtures("short_command")
@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_a_bad_command(case: str, install_spec: InstallSpec, start: Start, tmp_path: Path) -> None:
    words, error, text = BAD_COMMANDS[case]
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o755)
    words = [str(lost) if word == "{lost}" else word for word in words]
    name = install_spec("box", connect=words, python="python3")
    said = refused(start, name, error, 3.0)
    first, advice = said.split("\n", 1)
    assert first.startswith("host box: ")
    assert text in " ".join(said.split())
    # The way in, and what to do.
    assert f"`{words[0]} "[:50] in said
    wanted = "Try it in a terminal|[Tt]he option `(connect|python)`|must pass stdin on"
    assert re.search(wanted, advice)


@pytest.mark.usefixtures("short_command")
@pytest.mark.parametrize("version", sorted(FOUND))
def test_any_python(version: str) -> None:
    """The other end of a pipe is one of any version from 3.8; older ones are named."""
    login = [f"{name}={os.environ[name]}" for name in ("HOME", "PATH", "TMPDIR")]
    words = ["env", "-i", *login]

    async def echoed() -> bytes:
        way = WayIn(COMMAND, tuple(words))
        transport = await connect(HostAddress("box", way=way), FOUND[version])
        try:
            return (await transport.run(["cat"], b"x" * 1_000_000)).stdout
        finally:
            await transport.close()

    if supported(version):
        assert io_thread().call_blocking(echoed(), 20) == b"x" * 1_000_000
    else:
        with pytest.raises(UnusablePythonError, match=r"the agent needs .*3\.8 or later"):
            io_thread().call_blocking(echoed(), 20)


def test_the_words_of_a_command(
    install_spec: InstallSpec, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one word, and a request's value is never an option."""
    seen = tmp_path / "seen"
    script = tmp_path / "way"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$1" "$2" >{seen}\nshift 2\nexec env -i HOME="$HOME" '
        f'PATH="$PATH" TMPDIR="$TMPDIR" "$@"\n'
    )
    script.chmod(0o755)
    name = install_spec("box", connect=[str(script), "{host} of {username}", "-n={username}"])
    session = start(name, env={"KERNEL_USERNAME": "dr o'neil; $(id)"})
    assert session.value("6 * 7") == 42
    assert seen.read_text() == "box of dr o'neil; $(id)\n-n=dr o'neil; $(id)\n"
    text = refused(start, name, ConfigurationError, env={"KERNEL_USERNAME": "-rm"})
    assert "looks like an option" in text


def test_a_command_that_stops(
    install_spec: InstallSpec, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is unreachable, not dead; it is back when the command works again."""
    stop = tmp_path / "stopped"
    script = tmp_path / "way"
    script.write_text(
        f"#!/bin/sh\n[ -e {stop} ] && {{ echo the box is stopped >&2; exit 1; }}\n"
        f"echo $$ >{tmp_path}/pid\n"
        f'exec env -i HOME="$HOME" PATH="$PATH" TMPDIR="$TMPDIR" "$@"\n'
    )
    script.chmod(0o755)
    session = start(install_spec("box", connect=[str(script)]))
    session.run("kept = 1")
    stop.touch()
    os.kill(int((tmp_path / "pid").read_text()), 9)
    eventually(lambda: session.kernel.life.state.name == "UNREACHABLE")
    circuit = eventually(lambda: session.kernel.host.circuit)
    assert "the box is stopped" in str(circuit.error)
    stop.unlink()
    eventually(lambda: session.kernel.life.state.name == "RUNNING", 15)
    assert session.value("kept") == 1


# -- the doctor ------------------------------------------------------------------------------------


def examine(host: str, seconds: float = 60) -> list[dict[str, object]]:
    """The doctor's findings of one host."""
    words = [sys.executable, "-m", "remote_provisioners.cli.app", "doctor", host, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    (seen,) = json.loads(done.stdout)["hosts"] if done.stdout else [pytest.fail(done.stderr)]
    return list(seen["checks"])


def names(findings: list[dict[str, object]]) -> list[object]:
    return [finding["check"] for finding in findings]


AFTER = ["agent", "hook", "interpreter", "kernel"]


def test_the_doctor_of_openssh(
    rig: Rig, home: Path, monkeypatch: pytest.MonkeyPatch, by_openssh: None
) -> None:
    monkeypatch.setenv("RP_PYTHON", sys.executable)
    host = rig.hosts[0]
    assert names(examine(host.target)) == ["address", "name", "port", "host key", "login", *AFTER]
    host.refuse_keys()
    try:
        last = examine(host.target)[-1]
    finally:
        host.accept_keys()
    assert (last["check"], last["ok"]) == ("login", False)


def test_the_doctor_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RP_PYTHON", sys.executable)
    words = ["env", "-i", f"HOME={os.environ['HOME']}", f"PATH={os.environ['PATH']}"]
    monkeypatch.setenv("RP_CONNECT", json.dumps([*words, f"TMPDIR={os.environ['TMPDIR']}"]))
    assert names(examine("box")) == ["address", "program", "way in", *AFTER]
    monkeypatch.setenv("RP_CONNECT", '["no-such-program"]')
    last = examine("box")[-1]
    assert (last["check"], last["ok"]) == ("program", False)
    monkeypatch.setenv("RP_CONNECT", '["false"]')
    last = examine("box")[-1]
    assert (last["check"], last["ok"]) == ("way in", False)


def test_the_doctor_of_another_user(site: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RP_PYTHON", sys.executable)
    monkeypatch.setenv("RP_RUN_AS", "bob")
    seen = examine(f"alice@{site.target}")
    assert names(seen) == ["address", "name", "port", "host key", "login", "run as", *AFTER]
    assert "one channel carries everything" in str(seen[6]["seen"])  # sudo forwards nothing
    monkeypatch.setenv("RP_RUN_AS", "dave")
    last = examine(f"alice@{site.target}")[-1]
    assert (last["check"], last["ok"]) == ("run as", False)
