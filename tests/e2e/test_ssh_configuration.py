"""Configurations of real life: where ``ssh HOST true`` works, so do we, and the other way round."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.errors import AuthenticationError, HostError, HostKeyError
from remote_provisioners.hosts.transport import connect
from remote_provisioners.io_thread import io_thread
from remote_provisioners.placement.host_address import parse_address

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
    "match-final": "HostName {address}\nMatch final host nowhere\n Port 1",
    "include": "HostName {address}\nInclude {ssh}/other",
    "proxy-home": "HostName {address}\n ProxyCommand sh ~/.ssh/proxy %h %p",
    "proxy-substitution": "HostName {address}\n ProxyCommand nc $(echo %h) %p",
    "proxy-redirection": "HostName {address}\n ProxyCommand nc %h %p 2>/dev/null",
    "proxy-percent": "HostName {address}\n ProxyCommand sh -c 'test 9%%= = 9%%= && exec nc %h %p'",
    "global-known-hosts": "HostName {address}\n GlobalKnownHostsFile /dev/null",
    "known-hosts-of-each": "HostName {address}\n UserKnownHostsFile {ssh}/known/%k\n "
    "HostKeyAlias a",
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
}
#: And each of these must not, whatever OpenSSH makes of it.
REFUSED = {
    "no-known-hosts": "HostName {address}\n UserKnownHostsFile none",
    "missing-known-hosts": "HostName {address}\n UserKnownHostsFile {ssh}/nowhere",
    "alias-of-nobody": "HostName {address}\n HostKeyAlias nobody",
    "revoked": "HostName {address}\n UserKnownHostsFile {ssh}/revoked",
}
AGENT = {"public-identity", "identity-of-many"}


class Client:
    """A user with a configuration of her own."""

    def __init__(self, rig: Rig, home: Path) -> None:
        self.host: Host = rig.hosts[0]
        self.ssh = home / ".ssh"
        self.config = self.ssh / "config"
        self._kept = self.config.read_text()
        key = " ".join(self.host.host_key.split()[:2])
        known = self.ssh / "known"
        known.mkdir(exist_ok=True)
        (known / "a").write_text(f"a {key}\n")
        (self.ssh / "other").write_text("Host *\n Compression no\n")
        (self.ssh / "broken").write_text(f"@what? is this\nhost\n{self._names()} {key}\n")
        (self.ssh / "revoked").write_text(f"@revoked * {key}\n{self._names()} {key}\n")
        (self.ssh / "proxy").write_text('exec nc "$1" "$2"\n')

    def _names(self) -> str:
        host = self.host
        return f"{host.address},[{host.address}]:{host.port}"

    def configure(self, options: str) -> None:
        text = options.format(address=self.host.address, ssh=self.ssh)
        user, port = self.host.user, self.host.port
        self.config.write_text(f"Host box\n User {user}\n Port {port}\n {text}\n{self._kept}")

    def openssh(self) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-F", str(self.config), "-o", "BatchMode=yes", "box", "true"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)

    def ours(self) -> None:
        """Connect, run something. Raises HostError."""

        async def run() -> None:
            transport = await connect(parse_address("box"))
            try:
                assert (await transport.run(["true"], b"")).returncode == 0
            finally:
                await transport.close()

        io_thread().call_blocking(run(), 40)

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
        client.ours()


@pytest.mark.parametrize("name", REFUSED)
def test_host_keys_are_checked(client: Client, name: str) -> None:
    client.configure(REFUSED[name])
    with pytest.raises(HostKeyError) as raised:
        client.ours()
    expected = "REVOKED" if name == "revoked" else "unknown"
    assert f"the host key is {expected}" in assert_readable(raised.value)


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


def test_what_a_proxy_command_says_is_in_the_error(client: Client) -> None:
    client.configure("HostName {address}\n ProxyCommand echo 'no ticket: run kinit' >&2; exit 1")
    with pytest.raises(HostError, match="ProxyCommand said:\nno ticket: run kinit"):
        client.ours()


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
