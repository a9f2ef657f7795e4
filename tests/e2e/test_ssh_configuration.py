"""Configurations of real life: where ``ssh HOST true`` works, so do we, and the other way round."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remote_provisioners.errors import (
    AuthenticationError,
    HostError,
    HostKeyError,
    UnreachableError,
)
from remote_provisioners.hosts.transport import connect
from remote_provisioners.hosts.transport.by_asyncssh.transport import SSHTransport
from remote_provisioners.hosts.transport.pipe.transport import PipeTransport
from remote_provisioners.hosts.transport.ssh import login_errors
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import parse_address
from remote_provisioners.placement.way_in import ASYNCSSH, AUTOMATIC, OPENSSH, WayIn

from ..conftest import assert_readable, be_client, eventually
from ..rig import Host, Rig

#: Options for the host `box`: each has to connect.
WORKS = {
    "comment": "HostName {address} # the box with the GPU",
    "apostrophe": "# it's old\n HostName {address}",
    "quotes": 'HostName "{address}"',
    "equals": "HostName={address}",
    "match-exec": 'HostName {address}\nMatch originalhost box exec "test %n = box"\n LogLevel INFO',
    "match-exec-false": 'HostName {address}\nMatch host {address} exec "exit 1"\n Port 1',
    "match-exec-leaves-a-program": "HostName {address}\n"
    'Match originalhost box exec "sleep 8 & true"',
    "match-final": "HostName {address}\nMatch final host nowhere\n Port 1",
    "include": "HostName {address}\nInclude {ssh}/other",
    "proxy-home": "HostName {address}\n ProxyCommand sh ~/.ssh/proxy %h %p",
    "proxy-substitution": "HostName {address}\n ProxyCommand nc $(echo %h) %p",
    "proxy-redirection": "HostName {address}\n ProxyCommand nc %h %p 2>/dev/null",
    "proxy-percent": "HostName {address}\n ProxyCommand sh -c 'test 9%%= = 9%%= && exec nc %h %p'",
    "global-known-hosts": "HostName {address}\n GlobalKnownHostsFile /dev/null",
    "known-hosts-of-each": "HostName {address}\n UserKnownHostsFile {ssh}/known/%k\n "
    "HostKeyAlias a",
    "known-hosts-with-a-space": 'HostName {address}\n UserKnownHostsFile "{ssh}/known here" '
    "{ssh}/nowhere",
    "broken-known-hosts": "HostName {address}\n UserKnownHostsFile {ssh}/broken",
    "alive-120": "HostName {address}\n ServerAliveInterval 5\n ServerAliveCountMax 120",
    "alive-0": "HostName {address}\n ServerAliveInterval 5\n ServerAliveCountMax 0",
    "public-identity": "HostName {address}\n IdentityFile {ssh}/id_ed25519.pub\n "
    "IdentitiesOnly yes",
    "identity-of-many": "HostName {address}\n IdentityFile {ssh}/id_ed25519",
    "no-identity-file": "HostName {address}\n IdentityFile {ssh}/nothing\n "
    "IdentityFile {ssh}/id_ed25519",
    "algorithms": "HostName {address}\n Ciphers aes256-ctr\n MACs hmac-sha2-256\n KexAlgorithms "
    "curve25519-sha256,ecdh-sha2-nistp256",
    "compression": "HostName {address}\n Compression yes",
    "canonical": "HostName {address}\n CanonicalizeHostname yes\n CanonicalDomains example.org",
    "family": "HostName {address}\n AddressFamily inet",
    "multiplexed": "HostName {address}\n ControlMaster auto\n ControlPath {ssh}/cm-%C",
    "environment": "HostName {address}\n SetEnv A=b\n SendEnv LANG",
    "strict-no": "HostName {address}\n StrictHostKeyChecking no",
    "kex-fewer": "HostName {address}\n KexAlgorithms -diffie-hellman-*",
    "kex-first": "HostName {address}\n KexAlgorithms ^sntrup761x25519-sha512@openssh.com",
    "agent-variable": "HostName {address}\n IdentityFile {ssh}/nothing\n "
    "IdentityAgent ${{OUR_AGENTS}}/agent",
    "fork-after": "HostName {address}\n ForkAfterAuthentication yes",
    "jump-address": "HostName {address}\n ProxyJump {other_user}@{other}:{other_port}",
    "jump-tokens": "HostName {address}\n ProxyJump %r@other-of-%n\nHost other-of-box\n"
    " HostName {other}\n Port {other_port}",
    "jump-chain": "HostName {address}\n ProxyJump {other_user}@{other}:{other_port},second\n"
    "Host second\n HostName {address}\n Port {port}\n User {user}",
}
#: What a configuration sets for terminals, which OpenSSH's program must not do for us.
FOR_TERMINALS = {
    "stdin-null": "StdinNull yes",
    "fork-after": "ForkAfterAuthentication yes",
    "session-none": "SessionType none",
    "session-subsystem": "SessionType subsystem",
}
#: Each of these connects by the ssh program, unless an option says asyncssh.
BY_THE_PROGRAM = {
    "ControlPath": "HostName {address}\n ControlMaster auto\n ControlPath {ssh}/cm-%C",
    "ControlPath of a jump host": "HostName {address}\n ProxyJump jump\nHost jump\n"
    " HostName {address}\n Port {port}\n User {user}\n ControlPath {ssh}/cm-%C",
    "KnownHostsCommand": "HostName {address}\n UserKnownHostsFile none\n HostKeyAlias a\n "
    "KnownHostsCommand /bin/cat {ssh}/known/a",
    "ProxyUseFdpass": "HostName {address}\n ProxyUseFdpass yes\n "
    "ProxyCommand {python} {ssh}/pass-a-socket %h %p",
    "HostbasedAuthentication": "HostName {address}\n HostbasedAuthentication yes",
    "an algorithm that asyncssh lacks": "HostName {address}\n "
    "KexAlgorithms sntrup761x25519-sha512@openssh.com",
    "VerifyHostKeyDNS": "HostName {address}\n VerifyHostKeyDNS yes",
}
#: And each of these must not, whatever OpenSSH makes of it.
REFUSED = {
    "no-known-hosts": "HostName {address}\n UserKnownHostsFile none",
    "missing-known-hosts": "HostName {address}\n UserKnownHostsFile {ssh}/nowhere",
    "alias-of-nobody": "HostName {address}\n HostKeyAlias nobody",
    "revoked": "HostName {address}\n UserKnownHostsFile {ssh}/revoked",
}
PASS_A_SOCKET = """import socket, sys
connected = socket.create_connection((sys.argv[1], int(sys.argv[2])))
socket.send_fds(socket.socket(fileno=1), [b"."], [connected.fileno()])
"""
AGENT = {"public-identity", "identity-of-many", "agent-variable"}


class Client:
    """A user with a configuration of her own."""

    def __init__(self, rig: Rig, home: Path) -> None:
        self.host: Host = rig.hosts[0]
        self.other: Host = rig.hosts[1]
        self.ssh = home / ".ssh"
        self.config = self.ssh / "config"
        self._kept = self.config.read_text()
        key = " ".join(self.host.host_key.split()[:2])
        known = self.ssh / "known"
        known.mkdir(exist_ok=True)
        (known / "a").write_text(f"a {key}\n")
        (self.ssh / "other").write_text("Host *\n Compression no\n")
        (self.ssh / "known here").write_text(f"{self._names()} {key}\n")
        (self.ssh / "broken").write_text(f"@what? is this\nhost\n{self._names()} {key}\n")
        (self.ssh / "revoked").write_text(f"@revoked * {key}\n{self._names()} {key}\n")
        (self.ssh / "pass-a-socket").write_text(PASS_A_SOCKET)
        (self.ssh / "proxy").write_text('exec nc "$1" "$2"\n')

    def _names(self) -> str:
        host = self.host
        return f"{host.address},[{host.address}]:{host.port}"

    def configure(self, options: str) -> None:
        user, port = self.host.user, self.host.port
        text = options.format(
            address=self.host.address,
            port=port,
            user=user,
            ssh=self.ssh,
            other=self.other.address,
            other_port=self.other.port,
            other_user=self.other.user,
            python=sys.executable,
        )
        self.config.write_text(f"Host box\n User {user}\n Port {port}\n {text}\n{self._kept}")

    def openssh(self) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-F", str(self.config), "-o", "BatchMode=yes", "box", "true"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)

    def ours(self, kind: str = ASYNCSSH) -> type:
        """Connect, run something. Returns the transport's class. Raises HostError."""

        async def run() -> type:
            transport = await connect(replace(parse_address("box"), way=WayIn(kind)))
            try:
                assert (await transport.run(["true"], b"")).returncode == 0
            finally:
                await transport.close()
            return type(transport)

        return io_thread().call_blocking(run(), 40)

    def restore(self) -> None:
        self.config.write_text(self._kept)


@pytest.fixture
def client(rig: Rig, home: Path) -> Iterator[Client]:
    client = Client(rig, home)
    yield client
    client.restore()


@contextlib.contextmanager
def agent_with_many_keys(client: Client, directory: Path) -> Iterator[str]:
    """An SSH agent with eight keys, ours the last one: sshd takes six attempts."""
    path = str(directory / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: os.path.exists(path))
        keys = [directory / f"key{number}" for number in range(7)]
        for key in keys:
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(argv, check=True)
        environ = {**os.environ, "SSH_AUTH_SOCK": path}
        for key in [*keys, client.ssh / "id_ed25519"]:
            subprocess.run(["ssh-add", "-q", str(key)], check=True, env=environ)
        yield path
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.parametrize("name", WORKS)
def test_works_as_with_openssh(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client.configure(WORKS[name])
    with contextlib.ExitStack() as stack:
        if name in AGENT:
            path = stack.enter_context(agent_with_many_keys(client, tmp_path))
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            monkeypatch.setenv("OUR_AGENTS", str(tmp_path))
        client.ours()


@pytest.mark.parametrize("change", ["+ssh-rsa", "-ecdsa-*"])
def test_a_host_shows_the_key_that_is_known(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The host has several keys. The configuration only adds or removes algorithms."""
    client = Client(own_rig, be_client(own_rig, monkeypatch))
    host, files = client.host, {}
    for kind in ("ed25519", "rsa"):
        files[kind] = client.ssh / f"host-{kind}"
        argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(files[kind])]
        subprocess.run(argv, check=True)
        host.write(f"/tmp/{kind}", files[kind].read_text(), 0o600)
    host.sshd_option(HostKey="/tmp/ed25519\nHostKey /tmp/rsa")
    known = files["rsa"].with_suffix(".pub").read_text()
    (client.ssh / "rsa").write_text(f"{host.address} {known}")
    client.configure(
        f"HostName {{address}}\n UserKnownHostsFile {{ssh}}/rsa\n HostKeyAlgorithms {change}"
    )
    assert client.openssh().returncode == 0
    assert client.ours(AUTOMATIC) is SSHTransport
    client.restore()


@pytest.mark.parametrize("name", FOR_TERMINALS)
def test_settings_for_terminals(client: Client, name: str) -> None:
    client.configure(f"HostName {{address}}\n {FOR_TERMINALS[name]}")
    client.ours(OPENSSH)


@pytest.mark.parametrize("kind", [ASYNCSSH, OPENSSH])
@pytest.mark.parametrize("jump", ["box", "other\nHost other\n ProxyJump box"])
def test_jump_hosts_in_a_circle(client: Client, kind: str, jump: str) -> None:
    """OpenSSH's program would start itself a hundred times a second."""
    client.configure(f"HostName {{address}}\n ProxyJump {jump}")
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="leads back to box") as raised:
        client.ours(kind)
    assert_readable(raised.value)
    assert time.monotonic() - began < 3


def test_algorithms_that_asyncssh_lacks(client: Client) -> None:
    client.configure("HostName {address}\n KexAlgorithms sntrup761x25519-sha512@openssh.com")
    with pytest.raises(UnreachableError, match=r'(?s)none of the algorithms.*connect = "openssh"'):
        client.ours()


@pytest.mark.parametrize("kind", [ASYNCSSH, OPENSSH])
def test_a_host_behind_a_jump_host_refuses(client: Client, kind: str) -> None:
    """In the same words as without one."""
    jump = "HostName {address}\n ProxyJump {other_user}@{other}:{other_port}\n"
    client.configure(jump)
    client.host.refuse_keys()
    try:
        with pytest.raises(AuthenticationError, match="none of our keys is accepted"):
            client.ours(kind)
    finally:
        client.host.accept_keys()
    client.configure(f"{jump} UserKnownHostsFile {{ssh}}/nowhere\nHost {client.other.address}")
    known = f" UserKnownHostsFile {client.ssh}/known_hosts\n"
    client.config.write_text(f"Host {client.other.address}\n{known}{client.config.read_text()}")
    with pytest.raises(HostKeyError, match="the host key is unknown"):
        client.ours(kind)
    client.configure(
        "HostName {other}\n ProxyJump box2\nHost box2\n HostName {address}\n Port {port}"
    )
    client.config.write_text(
        client.config.read_text().replace(f"Port {client.host.port}", "Port 1", 1)
    )
    with pytest.raises(UnreachableError, match="the jump host before it cannot connect to it"):
        client.ours(kind)


@pytest.mark.parametrize("name", BY_THE_PROGRAM)
def test_what_only_openssh_can_do(
    client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.configure(BY_THE_PROGRAM[name])
    with caplog.at_level(logging.INFO, logger="remote_provisioners"):
        assert client.ours(AUTOMATIC) is PipeTransport
    keyword = name.removesuffix(" of a jump host")
    assert f"host box: the ssh program connects ({keyword} in its SSH configuration)" in caplog.text


def test_the_program_is_asked_once_for_its_configuration(client: Client) -> None:
    read = client.ssh / "read"
    client.configure(
        "HostName {address}\n VerifyHostKeyDNS yes\n"
        'Match originalhost box exec "echo once more >> {ssh}/read"'
    )
    assert client.ours(AUTOMATIC) is PipeTransport
    assert len(read.read_text().splitlines()) == 2  # `ssh -G`, and the connection
    read.unlink()


def test_by_default_host_keys_are_checked_whoever_connects(client: Client) -> None:
    client.configure(
        "HostName {address}\n ControlPath {ssh}/cm-%C\n"
        " StrictHostKeyChecking no\n UserKnownHostsFile /dev/null"
    )
    assert client.openssh().returncode == 0
    with pytest.raises(HostKeyError):
        client.ours(AUTOMATIC)
    client.ours(OPENSSH)  # that is the user's own choice


def test_terminals_do_not_share_our_connection(client: Client) -> None:
    """They would end with it."""
    client.configure("HostName {address}\n ControlMaster auto\n ControlPath {ssh}/shared")

    async def run() -> bool:
        transport = await connect(replace(parse_address("box"), way=WayIn(OPENSSH)))
        try:
            return (client.ssh / "shared").exists()
        finally:
            await transport.close()

    assert not io_thread().call_blocking(run(), 40)


def test_a_shared_connection_that_hangs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program ssh would wait for the shared connection. A new connection works."""
    monkeypatch.setattr(login_errors, "CONNECT_SECONDS", 1.0)
    client.configure(
        "HostName {address}\n ControlMaster auto\n ControlPersist 60\n ControlPath {ssh}/hangs"
    )
    assert client.openssh().returncode == 0
    [master] = (
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"ssh/hangs" in path.read_bytes()
    )
    os.kill(master, signal.SIGSTOP)
    try:
        assert client.ours(AUTOMATIC) is PipeTransport
    finally:
        os.kill(master, signal.SIGCONT)
        os.kill(master, signal.SIGTERM)


@pytest.mark.parametrize("kind", [AUTOMATIC, OPENSSH])
def test_no_window_asks(
    client: Client, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No window asks for a jump host either, to which another ssh program connects."""
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 1\n")
    ask.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    client.configure(
        "HostName {address}\n ProxyJump jump\n UserKnownHostsFile {ssh}/known_hosts\n"
        " IdentityFile {ssh}/id_ed25519\nHost jump\n HostName {other}\n Port {other_port}\n"
        " User {other_user}\n UserKnownHostsFile {ssh}/nowhere\n"
        " StrictHostKeyChecking ask\n BatchMode no"
    )
    with pytest.raises(HostKeyError):
        client.ours(kind)
    assert not (tmp_path / "asked").exists()


def test_an_sshd_whose_algorithms_asyncssh_lacks(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = be_client(own_rig, monkeypatch)
    own_rig.hosts[0].sshd_option(KexAlgorithms="sntrup761x25519-sha512@openssh.com")
    client = Client(own_rig, home)
    client.configure("HostName {address}")
    for _ in range(3):  # sshd hangs up, sooner or later
        assert client.ours(AUTOMATIC) is PipeTransport
    with pytest.raises(UnreachableError, match='set `connect = "openssh"`') as raised:
        client.ours(ASYNCSSH)
    assert_readable(raised.value)
    client.restore()


def test_asyncssh_where_it_can(client: Client) -> None:
    client.configure("HostName {address}")
    assert client.ours(AUTOMATIC) is SSHTransport
    client.configure(BY_THE_PROGRAM["ControlPath"])
    assert client.ours(ASYNCSSH) is SSHTransport


@pytest.mark.parametrize("kind", [ASYNCSSH, OPENSSH])
@pytest.mark.parametrize("name", REFUSED)
def test_host_keys_are_checked(client: Client, name: str, kind: str) -> None:
    client.configure(REFUSED[name])
    with pytest.raises(HostKeyError) as raised:
        client.ours(kind)
    expected = "REVOKED" if name == "revoked" else "unknown"
    text = assert_readable(raised.value)
    assert f"the host key is {expected}" in text
    assert ("Do not connect" in text) == (name == "revoked")
    assert "ssh-keygen -R" not in text


#: Certificates of a host: the known authority, the certificate's validity and name, and the error.
CERTIFICATES = {
    "works": ("ours", "+1d", "{address}", ""),
    "expired": ("ours", "20200101:20200102", "{address}", "the host needs a new certificate"),
    "of another host": ("ours", "+1d", "other.example", "the host needs a new certificate"),
    "of another authority": ("another", "+1d", "{address}", "key with @cert-authority to"),
    "of an unknown authority": ("", "+1d", "{address}", "key with @cert-authority to"),
}


@pytest.mark.parametrize("kind", [ASYNCSSH, OPENSSH])
def test_certificates_of_hosts(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """No case is a changed host key, so no error advises to forget the key."""
    home, host = be_client(own_rig, monkeypatch), own_rig.hosts[0]
    client = Client(own_rig, home)
    for name in ("ours", "another"):
        key = tmp_path / name
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(argv, check=True)
    (tmp_path / "host.pub").write_text(host.host_key)
    for case, (known, validity, principal, text) in CERTIFICATES.items():
        argv = ["ssh-keygen", "-q", "-s", str(tmp_path / "ours"), "-I", "it", "-h", "-V", validity]
        names = principal.format(address=host.address)
        subprocess.run([*argv, "-n", names, str(tmp_path / "host.pub")], check=True)
        host.write("/run/host-cert.pub", (tmp_path / "host-cert.pub").read_text())
        host.sshd_option(HostCertificate="/run/host-cert.pub")
        authority = (tmp_path / f"{known}.pub").read_text() if known else ""
        (client.ssh / "authorities").write_text(authority and f"@cert-authority * {authority}")
        client.configure("HostName {address}\n UserKnownHostsFile {ssh}/authorities")
        if not text:
            client.ours(kind)
            continue
        with pytest.raises(HostKeyError) as raised:
            client.ours(kind)
        said = assert_readable(raised.value)
        print(f"-- {case}\n{said}")
        assert text in said, case
        assert "ssh-keygen -R" not in said
        assert "confirm it" not in said
    client.restore()


def test_a_broken_block_says_where(client: Client) -> None:
    client.configure("HostName {address}\n Nonsense yes")
    with pytest.raises(
        HostError, match=r"(?s)the SSH configuration cannot be read: .*config.*[Nn]onsense"
    ):
        client.ours()


def test_match_exec_holds_up_nobody(client: Client) -> None:
    client.configure('HostName {address}\nMatch originalhost box exec "sleep 1.5"\n LogLevel INFO')
    late: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - began - 0.01)

    async def both() -> None:
        ticking = asyncio.ensure_future(tick())
        transport = await connect(parse_address("box"))
        await transport.close()
        ticking.cancel()

    began = time.monotonic()
    io_thread().call_blocking(both(), 40)
    assert time.monotonic() - began > 1.5
    assert max(late) < 1.0


@pytest.mark.parametrize("kind", [ASYNCSSH, OPENSSH])
def test_what_a_proxy_command_says_is_in_the_error(client: Client, kind: str) -> None:
    # It still has its stdout when it writes: OpenSSH's program kills one that has closed that.
    command = "sh -c 'echo no ticket: run kinit >&2; exit 1'"
    client.configure(f"HostName {{address}}\n ProxyCommand {command}")
    with pytest.raises(HostError, match="ProxyCommand said:\nno ticket: run kinit"):
        client.ours(kind)


def test_a_second_factor_is_named(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    host.sshd_option(
        AuthenticationMethods="publickey,keyboard-interactive",
        UsePAM="yes",
        KbdInteractiveAuthentication="yes",
    )
    client = Client(own_rig, home)
    client.configure("HostName {address}")
    with pytest.raises(AuthenticationError, match="wants keyboard-interactive besides a key"):
        client.ours()
    client.restore()


def test_a_certificate_whose_key_is_in_the_agent(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    client = Client(own_rig, home)
    authority = tmp_path / "authority"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(authority)]
    subprocess.run(argv, check=True)
    key = client.ssh / "id_ed25519"
    argv = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", host.user, f"{key}.pub"]
    subprocess.run(argv, check=True)
    host.write("/tmp/authority.pub", authority.with_suffix(".pub").read_text(), 0o644)
    host.sshd_option(TrustedUserCAKeys="/tmp/authority.pub")
    host.refuse_keys()
    with agent_with_many_keys(client, tmp_path) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        (client.ssh / "id_ed25519-cert.pub").rename(tmp_path / "cert.pub")
        hidden = key.rename(tmp_path / "hidden")
        client.configure(
            f"HostName {{address}}\n CertificateFile {tmp_path}/cert.pub\n"
            f" IdentityFile {client.ssh}/id_ed25519.pub\n IdentitiesOnly yes"
        )
        client.ours()
        hidden.rename(key)
    client.restore()
