"""What a host that cannot be used gets: one error, at once, and nothing left running."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from remote_provisioners.errors import (
    AgentError,
    AuthenticationError,
    ConfigurationError,
    HostKeyError,
    KernelStartError,
    RemoteProvisionerError,
    UnknownHostError,
    UnreachableError,
)
from remote_provisioners.hosts.transport import Transport, connect
from remote_provisioners.hosts.transport.ssh import login_errors
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import parse_address

from ..conftest import InstallSpec, Start, assert_readable, be_client, eventually
from ..rig import Host, Rig


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for to its end here is waited for 2 s, and 3 s for a login."""
    monkeypatch.setattr(login_errors, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(login_errors, "LOGIN_SECONDS", 3.0)


def refused(
    start: Start, name: str, error: type[RemoteProvisionerError], seconds: float = 4.5
) -> str:
    began = time.monotonic()
    with pytest.raises(error) as raised:
        start(name)
    assert time.monotonic() - began < seconds
    return assert_readable(raised.value)


def test_unknown_name(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec("no-such-host.invalid"), UnknownHostError)
    assert text.startswith("host no-such-host.invalid: the name does not resolve")
    assert text.endswith(").\nCheck the spelling, or set HostName in ~/.ssh/config.")


def test_refused_port(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec("127.0.0.1:1"), UnreachableError)
    assert text == "host 127.0.0.1:1: port 1 refuses connections: is sshd running there?"


def test_silent_host(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    own_rig.hosts[0].drop()
    text = refused(start, install_spec(own_rig.hosts[0].target), UnreachableError, 9)
    assert "no answer within 2 s" in text


class Says:
    """Listens on a port of this machine: says something to who connects, and then no more."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._server = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self.target = f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Says:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self._server, *self._taken):
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._server.accept()[0])
                self._taken[-1].sendall(self._greeting)


def slow_login(host: Host, seconds: float) -> None:
    """Have sshd ask a program for keys, which takes its time; it does so twice a login."""
    keys = host.home / ".ssh/authorized_keys"
    host.run(["mkdir", "-p", "/run/slow"])
    host.run(["tee", "/run/slow/keys"], stdin=f"#!/bin/sh\nsleep {seconds}\ncat {keys}\n")
    host.run(["chmod", "755", "/run/slow/keys"])
    host.sshd_option(
        AuthorizedKeysFile="none",
        AuthorizedKeysCommand="/run/slow/keys",
        AuthorizedKeysCommandUser="root",
    )


@pytest.mark.parametrize("greeting", [b"", b"220 mail.invalid ESMTP\r\n"])
def test_no_ssh_server(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, greeting: bytes
) -> None:
    with Says(greeting) as bad:
        text = refused(start, install_spec(bad.target), UnreachableError, 9)
    assert text.startswith(f"host {bad.target}: no answer within 2 s:\nconnections are accepted")


def test_keys_are_not_exchanged(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    """A host that has said who it is gets more time than one that is silent."""
    began = time.monotonic()
    with Says(b"SSH-2.0-OpenSSH_9.9\r\n") as bad:
        text = refused(start, install_spec(bad.target), UnreachableError, 15)
    assert time.monotonic() - began > 4
    assert text.startswith(f"host {bad.target}: connected, but keys were not exchanged within 3 s")


def test_login_does_not_end(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    slow_login(host, 60)
    text = refused(start, install_spec(host.target), UnreachableError, 12)
    assert text.startswith(f"host {host.target}: connected, but the login was not over within 3 s")
    host.run(["pkill", "-x", "sleep"])  # or it is waited for to the end


def through_the_first(rig: Rig) -> list[str]:
    """Names for the second host as reached through the first one, in two ways."""
    config = rig.home / ".ssh/config"
    first, second = rig.hosts[:2]
    there = f" HostName {second.address}\n User {second.user}\n"
    ssh = f"{shutil.which('ssh')} -F {config}"
    config.write_text(
        f"Host jumped\n{there} ProxyJump {first.target}\n"
        f"Host commanded\n{there} ProxyCommand {ssh} -W %h:%p {first.target}\n"
        f"{config.read_text()}"
    )
    return ["jumped", "commanded"]


def proxies() -> list[str]:
    """The ProxyCommands of this process that run, or are to be reaped."""
    pids = " ".join(file.read_text() for file in Path("/proc/self/task").glob("*/children"))
    found = [path for pid in pids.split() if (path := Path(f"/proc/{pid}/comm")).exists()]
    return [path.parent.name for path in found if path.read_text() == "ssh\n"]


def connect_at_once(names: list[str]) -> list[Transport | BaseException]:
    async def body() -> list[Transport | BaseException]:
        made = await asyncio.gather(
            *(connect(parse_address(name)) for name in names), return_exceptions=True
        )
        for each in made:
            if isinstance(each, Transport):
                assert (await each.run(["echo", "there"], b"")).stdout == b"there\n"
                await each.close()
        while proxies():
            await asyncio.sleep(0.01)
        return made

    return io_thread().call_blocking(body(), 60)


@pytest.mark.long
def test_a_slow_login_works(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """Longer than a silent host is waited for: the host's, and that of the host before it."""
    monkeypatch.setattr(login_errors, "LOGIN_SECONDS", 15.0)
    be_client(own_rig, monkeypatch)
    first = own_rig.hosts[0]
    slow_login(first, 1.5)
    began = time.monotonic()
    session = start(install_spec(first.target))
    assert session.value("1") == 1
    assert time.monotonic() - began > 3
    first.stop_sshd(sessions=True)
    first.start_sshd()
    assert session.value("2") == 2  # it is back as well
    made = connect_at_once(through_the_first(own_rig))
    assert [type(each).__name__ for each in made] == ["SSHTransport"] * 2, made


def test_silent_behind_another_host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    be_client(own_rig, monkeypatch)
    names = through_the_first(own_rig)
    own_rig.hosts[1].drop()
    began = time.monotonic()
    jumped, commanded = map(str, connect_at_once(names))
    assert time.monotonic() - began < 12
    assert jumped == "host jumped: no answer within 2 s: down, or a firewall drops packets"
    assert commanded == "host commanded: no answer within 5 s through its ProxyCommand or ProxyJump"


def test_host_key_unknown(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    known = home / ".ssh/known_hosts"
    kept = known.read_text()
    known.unlink()
    try:
        text = refused(start, install_spec(rig.hosts[0].target), HostKeyError)
    finally:
        known.write_text(kept)
    assert text.startswith(f"host {rig.hosts[0].target}: the host key is unknown")
    assert "Connect once by `ssh" in text


@pytest.mark.parametrize("option", ["StrictHostKeyChecking no", "UserKnownHostsFile none"])
def test_host_keys_are_checked_whatever_is_configured(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, option: str
) -> None:
    known, config = home / ".ssh/known_hosts", home / ".ssh/config"
    kept, kept_config = known.read_text(), config.read_text()
    known.write_text("")
    config.write_text(f"{option}\n{kept_config}")
    try:
        refused(start, install_spec(rig.hosts[0].target), HostKeyError)
    finally:
        known.write_text(kept)
        config.write_text(kept_config)


def test_host_key_changed(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.new_host_key()
    text = refused(start, install_spec(host.target), HostKeyError)
    assert text.startswith(f"host {host.target}: the host key has CHANGED")
    assert "ssh-keygen -R" in text


def test_no_key_accepted(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.refuse_keys()
    text = refused(start, install_spec(host.target), AuthenticationError)
    assert text.startswith(f"host {host.target}: none of our keys is accepted")


@pytest.mark.parametrize("python", ["no-such-python", "/no/such/python", "a b'c\"$(touch /tmp/x)"])
def test_no_python(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, python: str
) -> None:
    """A kernelspec's interpreter is its kernels' own: what it names wrong is no other's matter."""
    host = rig.hosts[0]
    text = refused(start, install_spec(host.target, python=python), KernelStartError)
    assert text.startswith(f"host {host.target}: ")
    assert repr(python) in text
    assert not Path("/tmp/x").exists()


def test_a_python_that_this_user_may_not_reach(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    python = "/run/closed/env/bin/python"
    host.write(python, "#!/bin/sh\n", 0o755)
    host.run(["chmod", "700", "/run/closed"])
    user = next(name for name in host.homes if name != host.user)
    text = refused(start, install_spec(f"{user}@{host.target}", python=python), KernelStartError)
    assert f"program {python!r} cannot be reached:\nthis user may not enter /run/closed" in text


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"KERNEL_TOKEN": "x" * 140_000}, "the environment variable KERNEL_TOKEN is too long for"),
        ({f"KERNEL_{n}": "x" * 130_000 for n in range(40)}, "environment and arguments are too"),
    ],
)
def test_an_environment_that_is_too_long(
    rig: Rig,
    home: Path,
    install_spec: InstallSpec,
    start: Start,
    env: dict[str, str],
    said: str,
    local: bool,
) -> None:
    target = "localhost" if local else rig.hosts[0].target
    name = install_spec(target, argv=["sh", "-c", "sleep 9", "{connection_file}"])
    with pytest.raises(KernelStartError, match=f"host {target}: {said}") as raised:
        start(name, env=env)
    assert "KERNEL_" in assert_readable(raised.value)


def test_not_a_python(rig: Rig, home: Path, install_spec: InstallSpec, start: Start) -> None:
    text = refused(start, install_spec(rig.hosts[0].target, python="cat"), KernelStartError)
    assert text.startswith(f"host {rig.hosts[0].target}: ")


OLD = """#!/bin/sh
echo 'Python 3.7 is older than 3.8' >&2
exit 1
"""


def test_a_kernelspec_with_an_old_python_does_not_break_the_others(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """Whatever the order, and a killed agent is replaced all the same."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.write(host.home / "old-python", OLD, 0o755)
    old = install_spec(host.target, name="old", python=str(host.home / "old-python"))
    good = install_spec(host.target, name="good")
    with pytest.raises(KernelStartError):
        start(old)
    assert start(good).value("1") == 1
    with pytest.raises(KernelStartError):
        start(old)
    host.run(["pkill", "-9", "-f", "agent.pyz"])
    assert start(good).value("2") == 2


def test_a_host_whose_only_python_a_kernelspec_knows(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.write(host.home / ".bashrc", "PATH=/nowhere\n")
    assert start(install_spec(host.target)).value("1") == 1
    other = own_rig.hosts[1]
    other.write(other.home / ".bashrc", "PATH=/nowhere\n")
    text = refused(start, install_spec(other.target, python="python3"), AgentError)
    assert text.startswith(f"host {other.target}: no Python: 'python3' is not there")
    assert "option `python`" in text
    assert "tried: python3, python, python3.14" in text


def test_full_disk(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.small_tmp("4k")
    text = refused(start, install_spec(host.target), AgentError)
    assert text.startswith(f"host {host.target}: cannot start the agent: No space left on device")


def test_disk_full_after_the_agent_has_started(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.small_tmp("1m")
    name = install_spec(host.target)
    session = start(name)
    host.run(["sh", "-c", "dd if=/dev/zero of=/tmp/fill bs=4k 2>/dev/null || true"])
    text = refused(start, name, AgentError)
    assert "No space left on device" in text
    assert "None" not in text
    assert session.value("1 + 1") == 2
    host.run(["rm", "/tmp/fill"])
    assert start(name).value("2") == 2


def test_an_environment_hook_where_the_disk_is_full(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.small_tmp("1m")
    assert start(install_spec(host.target)).value("1") == 1
    fill = "dd if=/dev/zero of=/tmp/fill bs=4k 2>/dev/null; export A=1"
    text = refused(
        start, install_spec(host.target, environment_hook=fill, name="hooked"), KernelStartError
    )
    assert "No space left on device" in text
    assert "None" not in text


@pytest.mark.parametrize("logged_in", [True, False])
def test_a_squatted_directory(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    logged_in: bool,
) -> None:
    """Another user has made our directory in /tmp, and nobody but root can remove it.

    The agent's is in /run/user, or in the home directory; whoever comes later finds it there,
    also when the other one is gone.
    """
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.run(["sh", "-c", "mkdir -m 777 /tmp/remote-provisioners-0; chown 20001 /tmp/remote-*"])
    elsewhere = "/run/user/0" if logged_in else str(host.home)
    if logged_in:
        host.run(["mkdir", "-p", "-m", "700", "/run/user/0"])
    name = install_spec(host.target)
    session = start(name)
    assert session.value("2") == 2
    assert session.kernel.host.directory.startswith(f"{elsewhere}/")
    host.run(["rmdir", "/tmp/remote-provisioners-0"])
    host.stop_sshd(sessions=True)
    host.start_sshd()
    assert session.value("3") == 3
    assert session.kernel.host.directory.startswith(f"{elsewhere}/")


def test_a_read_only_tmp(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.run(["mount", "-o", "remount,bind,ro", "/tmp"])
    session = start(install_spec(host.target))
    assert session.value("2") == 2
    assert not session.kernel.host.directory.startswith("/tmp/")


@pytest.mark.parametrize(
    "options",
    [
        {"AllowStreamLocalForwarding": "no"},
        {"AllowTcpForwarding": "no"},
        {"DisableForwarding": "yes"},
    ],
)
def test_forwarding_refused(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
) -> None:
    """One channel of the connection carries everything; the log says so once."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.sshd_option(**options)
    name = install_spec(host.target)
    assert [start(name).value("6 * 7") for _ in range(2)] == [42, 42]
    assert host.tcp_connections() == 1
    said = [r.message for r in caplog.records if "sshd forwards nothing" in r.message]
    assert len(said) == 1, said
    assert host.target in said[0]


def test_a_noisy_login(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    """A start-up file that prints does not confuse anybody."""
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.write(
        f"{host.home}/.bashrc", "echo Welcome; echo '{\"socket\": 1}'; echo err >&2\n", 0o644
    )
    assert start(install_spec(host.target)).value("1") == 1


def test_a_login_with_odd_settings(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    """The login's umask forbids our own files, and the login ignores two signals."""
    host = rig.hosts[0]
    user = next((user for user in host.homes if user != host.user), host.user)
    host.write(f"{host.homes[user]}/.bashrc", "umask 0777\ntrap '' CHLD HUP\n", 0o644, user=user)
    try:
        session = start(install_spec(f"{user}@{host.address}:{host.port}"))
        assert session.value("1") == 1
        assert session.value("oct(__import__('os').umask(0))") == "0o77"
        session.run("import signal")
        for name in ("SIGCHLD", "SIGHUP"):
            assert session.value(f"int(signal.getsignal(signal.{name}))") == signal.SIG_DFL
    finally:
        host.run(["rm", f"{host.homes[user]}/.bashrc"], user=user)


def test_a_kernel_that_dies_names_its_exit_code_and_its_last_words(
    rig: Rig,
    home: Path,
    install_spec: InstallSpec,
    start: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the log, and as jupyter_server's `reason` until it lives again."""
    session = start(install_spec(rig.hosts[0].target))
    session.manager.reason = ""  # as jupyter_server has it
    # ipykernel has made stderr a pipe of its own
    stderr = "getattr(sys.stderr, '_original_stdstream_copy', None) or 2"
    session.client.execute(f"import os, sys; os.write({stderr}, b'no licence left'); os._exit(3)")
    eventually(lambda: not session.manager.is_alive())
    text = session.manager.reason
    assert text.startswith("exit code 3: ")
    assert text.endswith("no licence left")
    # Another thread says so in the log.
    said = eventually(lambda: [r.message for r in caplog.records if "exit code 3" in r.message])
    assert [line[-15:] for line in said] == ["no licence left"]
    session.manager.restart_kernel(now=True)
    assert session.manager.is_alive()
    assert session.manager.reason == ""


# -- requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pinned", ["-oProxyCommand=touch /tmp/x", "a;b", "$(touch /tmp/x)", "a\nb", "a,b", "a b", "h:0"]
)
def test_a_pin_that_is_no_host(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start, pinned: str
) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the host"):
        start(install_spec(rig.hosts[0].target), env={"KERNEL_REMOTE_HOST": pinned})
    assert not Path("/tmp/x").exists()


def test_a_failed_start_is_followed_by_a_good_one(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    hosts = [host.target for host in rig.hosts]
    bad = install_spec(hosts, argv=["python", "-c", "raise SystemExit(4)"], name="bad")
    with pytest.raises(KernelStartError, match=f"host {hosts[0]}: .*exit code 4"):
        start(bad)
    assert start(install_spec(hosts)).host == hosts[1]


def test_an_interpreter_below_home(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.run(["mkdir", "bin"])
    host.write(f"{host.home}/bin/mine", f'#!/bin/sh\nMINE=1 exec {sys.executable} "$@"\n', 0o755)
    session = start(install_spec(host.target, python="~/bin/mine"))
    assert session.value("__import__('os').environ['MINE']") == "1"
