"""The side that connects: a HOME with a key, the hosts it trusts and what it calls them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .sshd import generate_key

COMMON = """\
Host *
    IdentityFile {ssh}/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile {ssh}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
"""


class Client:
    """OpenSSH's programs take HOME from the password database: give them ``-F config``.

    asyncssh takes it from the environment.  All paths in the files are absolute, so both work.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ssh = home / ".ssh"
        self._ssh.mkdir(mode=0o700, parents=True)
        self.config = self._ssh / "config"
        self.known_hosts = self._ssh / "known_hosts"
        self.public_key = generate_key(self._ssh / "id_ed25519")
        self._aliases: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def alias(self, name: str, address: str, port: int, user: str) -> None:
        """Let ``ssh name`` lead to that address."""
        self._aliases[name] = (
            f"Host {name}\n    HostName {address}\n    Port {port}\n    User {user}\n"
        )
        self.config.write_text("\n".join([*self._aliases.values(), COMMON.format(ssh=self._ssh)]))

    def trust(self, names: Iterable[str], port: int, key: str) -> None:
        """Expect that host key there, instead of any former one."""
        for name in filter(None, names):
            self._keys[f"[{name}]:{port}"] = key
            if port == 22:
                self._keys[name] = key
        self.known_hosts.write_text("".join(f"{k} {v}\n" for k, v in self._keys.items()))
