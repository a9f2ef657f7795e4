"""What a way in has said becomes one error, with the cause in its class."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource

import pytest

from remote_provisioners import user
from remote_provisioners.errors import (
    HostError,
    LoginWantedError,
    RunAsError,
    UnreachableError,
    UnusablePythonError,
)
from remote_provisioners.hosts.transport.by_asyncssh.login import log_in
from remote_provisioners.hosts.transport.by_openssh.transport import explain, own_words, phase_of
from remote_provisioners.hosts.transport.local import LocalTransport
from remote_provisioners.hosts.transport.pipe.errors import why_not_opened
from remote_provisioners.hosts.transport.pipe.start import NotOpened
from remote_provisioners.hosts.transport.ssh.ciphers import aes_first
from remote_provisioners.hosts.transport.ssh.login_errors import Phase, what_is_late
from remote_provisioners.hosts.transport.ssh.reading import configuration_files
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.way_in import COMMAND, OPENSSH, WayIn

AS_BOB_IN_BOX = ("bob", ("sudo", "-n", "-u", "bob", "-H", "--"))
AS_BOB = WayIn(OPENSSH, run_as="bob", become=("sudo", "-n", "-u", "bob", "-H", "--"))


@pytest.mark.parametrize(
    ("way", "stderr", "returncode", "error", "text"),
    [
        (AS_BOB, "sudo: a password is required", 1, RunAsError, "(sudo: a password is required)"),
        (AS_BOB, "bash: line 1: sudo: command not found", 127, RunAsError, "command not found"),
        (AS_BOB, "doas: Operation not permitted", 1, RunAsError, "doas: Operation not permitted"),
        (AS_BOB, "sudo: python3: command not found", 1, UnusablePythonError, "no Python"),
        (AS_BOB, "  File x\nSyntaxError: invalid", 1, UnusablePythonError, "is too old"),
        (WayIn(OPENSSH), "bash: python3: command not found", 127, UnusablePythonError, "no Python"),
        (WayIn(OPENSSH), "account expired", 1, UnreachableError, "it says: account expired"),
        (
            WayIn(COMMAND, ("docker", "exec", "box"), *AS_BOB_IN_BOX),
            "container box is not running",
            1,
            RunAsError,
            "cannot run as bob by `docker exec box` (container box is not running)",
        ),
    ],
)
def test_the_class_of_an_error(
    way: WayIn, stderr: str, returncode: int, error: type[HostError], text: str
) -> None:
    made = why_not_opened(NotOpened("it has ended", "", stderr, returncode), way, "python3")
    assert type(made) is error
    assert text in str(made)


def test_a_missing_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine: its user has none, as in many containers."""
    monkeypatch.setenv("HOME", "/proc/nobody")

    async def where() -> bytes:
        return (await LocalTransport().run(["pwd"], b"")).stdout

    assert asyncio.run(where()) == b"/\n"


def test_no_descriptor_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program `ssh` cannot be asked for the configuration."""

    async def connect() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
        try:
            await log_in(HostAddress("127.0.0.1"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with pytest.raises(UnreachableError, match="Too many open files"):
        asyncio.run(connect())


def test_a_smart_card_that_wants_its_pin() -> None:
    """Where nobody can be asked, the program shows none of its keys."""
    verbose = "debug1: provider /card.so slot 0\r\npin required\r\nPermission denied (publickey)."
    error = explain(verbose, HostAddress("gpu1"))
    assert type(error) is LoginWantedError
    assert str(error) == (
        "the smart card asks for its PIN.\nLog in (again): jupyter remote login gpu1"
    )


#: As OpenSSH's program prints it: its own lines, and those of the program for the jump host.
BEHIND = """OpenSSH_9.2p1
debug1: Setting implicit ProxyCommand from ProxyJump: ssh -v -W '[%h]:%p' jump
debug1: Executing proxy command: exec ssh -v -W '[10.0.0.2]:22' jump
OpenSSH_9.2p1
debug1: SSH2_MSG_NEWKEYS received
Authenticated to jump ([10.0.0.1]:22) using "publickey".
"""


def test_a_login_at_a_jump_host_is_not_one_at_the_host() -> None:
    assert phase_of(BEHIND) is Phase.BEGUN
    said = f"{BEHIND}debug1: Remote protocol version 2.0, remote\n"
    assert phase_of(said) is Phase.ANSWERED
    said += "debug1: SSH2_MSG_NEWKEYS received\n"
    assert phase_of(said) is Phase.KEYS_EXCHANGED
    said += 'Authenticated to box (via proxy) using "publickey".\n'
    assert phase_of(said) is Phase.LOGGED_IN


def test_a_jump_host_that_does_not_forward() -> None:
    error = explain(
        f"{BEHIND}channel 0: open failed: administratively prohibited: open failed\r\n"
        "stdio forwarding failed\r\nkex_exchange_identification: Connection closed\r\n",
        HostAddress("box"),
    )
    assert type(error) is UnreachableError
    assert str(error).splitlines() == [
        "the jump host before it refuses to forward (administratively prohibited: open failed).",
        "Its sshd needs `AllowTcpForwarding yes`",
    ]


def test_words_that_ssh_has_cut_in_two() -> None:
    verbose = (
        "OpenSSH_9.2p1\r\ndebug1: Sending command\r\nsudodebug1: client_input_channel_req\r\n"
        ": a password is required\ndebug1: Exit status 1"
    )
    assert own_words(verbose) == "sudo: a password is required"


@pytest.mark.parametrize(
    ("verbose", "phase", "text"),
    [
        ("debug1: Connecting to h [10.0.0.1] port 22.", Phase.BEGUN, "a firewall drops packets"),
        ("debug1: Connection established.", Phase.CONNECTED, "no SSH server speaks"),
        ("debug1: Remote protocol version 2.0, remote", Phase.ANSWERED, "large packets"),
        ("debug1: SSH2_MSG_NEWKEYS received", Phase.KEYS_EXCHANGED, "the login was not over"),
        ("Authenticated to h ([10.0.0.1]:22).", Phase.LOGGED_IN, "no command ran"),
        ("debug1: mux_client_request_session: id 2", Phase.LOGGED_IN, "no command ran"),
    ],
)
def test_which_limit_has_passed(verbose: str, phase: Phase, text: str) -> None:
    assert phase_of("OpenSSH_9.2p1\n" + verbose) is phase
    said = what_is_late(phase, proxied=False)
    assert text in said
    assert all(len(line) <= 90 for line in said.splitlines())


@pytest.mark.parametrize(
    ("ciphers", "wanted"),
    [
        (
            "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
            "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr",
        ),
        ("chacha20-poly1305@openssh.com,aes128-ctr", ""),  # a build without it
    ],
)
def test_aes_comes_first_unless_the_user_has_chosen(ciphers: str, wanted: str) -> None:
    assert aes_first({"ciphers": [ciphers]}, {"ciphers": [ciphers]}) == wanted
    assert aes_first({"ciphers": ["aes128-ctr"]}, {"ciphers": [ciphers]}) == ""


def test_a_user_without_a_name_and_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user is only a number. The ssh program says what it lacks."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(user, "_entries", {})
    assert configuration_files() == ["-F", "none"]
