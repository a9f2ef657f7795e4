"""Hosts that let us in and run something else than what we ask for, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from remote_provisioners.errors import HostError
from remote_provisioners.hosts.transport.ssh import command as ssh_command
from remote_provisioners.hosts.transport.ssh import login_errors

from ..conftest import InstallSpec, Start, assert_readable, be_client
from ..rig import Host, Rig

#: Each way in by SSH.
WAYS = ["asyncssh", "openssh"]


@pytest.fixture(params=WAYS)
def host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Host:
    be_client(own_rig, monkeypatch)
    monkeypatch.setenv("RP_CONNECT", request.param)
    monkeypatch.setattr(ssh_command, "SPEAK_SECONDS", 2.0)
    monkeypatch.setattr(login_errors, "LOGIN_SECONDS", 2.0)
    monkeypatch.setattr(login_errors, "CONNECT_SECONDS", 2.0)
    return own_rig.hosts[0]


def refused(start: Start, name: str) -> str:
    with pytest.raises(HostError) as raised:
        start(name)
    return assert_readable(raised.value)


def login_shell(host: Host, shell: str) -> None:
    changed = host.run(["sed", f"/^{host.user}:/s|:[^:]*$|:{shell}|", "/etc/passwd"])
    host.run(["tee", "/etc/passwd"], stdin=changed)


def pam(host: Host, account: str) -> None:
    lines = f"auth required pam_permit.so\n{account}\nsession required pam_permit.so\n"
    host.write("/run/pam-sshd", lines)
    host.run(["mount", "--bind", "/run/pam-sshd", "/etc/pam.d/sshd"])
    host.sshd_option(UsePAM="yes", PermitRootLogin="yes")


def test_an_account_without_a_shell(host: Host, install_spec: InstallSpec, start: Start) -> None:
    login_shell(host, "/usr/sbin/nologin")
    first, *rest = refused(start, install_spec(host.target)).splitlines()
    assert first == f"host {host.target}: it says: This account is currently not available."
    assert "ended before Python ran (exit code 1)" in rest[0]
    assert "shell or sshd's ForceCommand" in rest[1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo 'Use the web page.'; exit 3", "Use the web page."),
        ("echo 'Use the web page.' >&2; exit 3", "Use the web page."),
        ("internal-sftp", "This service allows sftp connections only."),
    ],
)
def test_a_forced_command(
    host: Host, install_spec: InstallSpec, start: Start, command: str, said: str
) -> None:
    host.sshd_option(ForceCommand=command)
    first, *rest = refused(start, install_spec(host.target)).splitlines()
    assert first == f"host {host.target}: it says: {said}"
    assert "ended before Python ran" in rest[0]


def test_a_forced_command_that_splits_ours_at_spaces(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """It reads no quotes: no shell does."""
    host.sshd_option(ForceCommand="exec $SSH_ORIGINAL_COMMAND")
    assert start(install_spec(host.target)).value("6 * 7") == 42


def test_a_chroot_without_devices_and_processes(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    host.run(["sh", "-c", "mkdir /run/jail && mount --bind / /run/jail"])
    host.sshd_option(ChrootDirectory="/run/jail")
    text = refused(start, install_spec(host.target))
    assert "cannot start the agent: it runs Linux, without /proc" in text


def test_a_host_in_maintenance(host: Host, install_spec: InstallSpec, start: Start) -> None:
    """As /run/nologin is shown by PAM."""
    host.write("/run/why", "Maintenance until noon.\n")
    pam(
        host,
        "account required pam_echo.so file=/run/why\naccount required pam_deny.so",
    )
    first, *_ = refused(start, install_spec(host.target)).splitlines()
    assert first == f"host {host.target}: it says: Maintenance until noon."


def test_a_banner(host: Host, install_spec: InstallSpec, start: Start) -> None:
    host.write("/run/banner", "Closed for all but staff.\n")
    host.sshd_option(Banner="/run/banner")
    host.refuse_keys()
    first, second, *_ = refused(start, install_spec(host.target)).splitlines()
    assert first == f"host {host.target}: it says: Closed for all but staff."
    assert "none of our keys is accepted" in second


LOGGING_SHELL = """#!/bin/sh
cat >/run/was-read
"""


@pytest.mark.parametrize("ending", ["exec /run/shell", "read x"])
def test_a_login_that_reads_stdin_gets_nothing_of_ours(
    host: Host, install_spec: InstallSpec, start: Start, ending: str
) -> None:
    host.write("/run/shell", LOGGING_SHELL, 0o755)
    host.write(host.home / ".bashrc", f"echo Welcome to zsh\n{ending}\necho $x >>/run/was-read\n")
    text = refused(start, install_spec(host.target))
    assert "start-up file" in text, text
    assert "Welcome to zsh" in text
    assert host.run(["sh", "-c", "cat /run/was-read || true"]).strip() == ""


#: As the real one answers; Debian has it no longer.
PYTHON_2 = """#!/bin/sh
echo "Unknown option: -I
usage: $0 [option] ... [-c cmd | -m mod | file | -] [arg] ...
Try 'python -h' for more information." >&2
exit 2
"""


def test_a_host_with_python_2_only(host: Host, install_spec: InstallSpec, start: Start) -> None:
    host.write(host.home / "bin/python3", PYTHON_2, 0o755)
    host.write(host.home / ".bashrc", "PATH=~/bin\n")
    text = refused(start, install_spec(host.target, python="python3"))
    first, *_ = text.splitlines()
    assert first.startswith(f"host {host.target}: 'python3'")
    assert "is too old: the agent needs Python 3.8 or later" in first
    assert "Unknown option" not in text


def test_a_login_that_goes_elsewhere(host: Host, install_spec: InstallSpec, start: Start) -> None:
    """`~/python` is below the home directory all the same."""
    host.write(host.home / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n', 0o755)
    host.write(host.home / ".bashrc", "PATH=/nowhere; cd /var\n")
    session = start(install_spec(host.target, python="~/python"))
    assert session.value("2") == 2


def test_nothing_may_be_forwarded_by_this_key(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    keys: Path = host.home / ".ssh/authorized_keys"
    keys.write_text(f"restrict {keys.read_text()}")
    host.sshd_option(PermitOpen="none")
    assert start(install_spec(host.target)).value("6 * 7") == 42


@pytest.mark.long
def test_sshd_opens_no_session(host: Host, install_spec: InstallSpec, start: Start) -> None:
    host.sshd_option(MaxSessions="0")
    first, second = refused(start, install_spec(host.target)).splitlines()
    assert first.startswith(f"host {host.target}: sshd opens no session")
    assert "`MaxSessions 10`" in second
    doctor = [sys.executable, "-m", "remote_provisioners.cli.app", "doctor"]
    done = subprocess.run(doctor, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "It needs `MaxSessions 10`" in done.stdout


@pytest.mark.long
def test_one_session_is_enough(host: Host, install_spec: InstallSpec, start: Start) -> None:
    host.sshd_option(MaxSessions="1", DisableForwarding="yes")
    assert start(install_spec(host.target)).value("6 * 7") == 42


#: Lets every second command in.
TAKES_TURNS = (
    "mkdir ~/turn 2>/dev/null || { rmdir ~/turn; echo 'no second command' >&2; exit 1; }\n"
)


def test_nothing_may_be_forwarded_and_no_pipe_can_be_opened(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.sshd_option(DisableForwarding="yes")
    host.write(host.home / ".bashrc", TAKES_TURNS)
    lines = refused(start, install_spec(host.target, connect="asyncssh")).splitlines()
    assert lines[0].startswith(f"host {host.target}: sshd refuses to forward")
    assert any(line.startswith("It needs `AllowTcpForwarding yes`") for line in lines)
    assert "Nor can one channel carry everything: it says: no second command" in lines
    # Nobody has reached that agent, which waits a minute for its server.
    host.run(["pkill", "-9", "-f", "agent.pyz"])
    host.run(["sh", "-c", "rm -r /tmp/remote-provisioners-*"])
