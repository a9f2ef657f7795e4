"""The settings of one SSH connection, after the user's SSH configuration has been read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SSH_PORT = 22


@dataclass(frozen=True)
class SSHConfiguration:
    """The settings for connecting to one host. Paths are absolute."""

    #: The name as the user wrote it, then the name or address to connect to.
    name: str
    host: str
    port: int
    user: str
    host_key_alias: str
    known_hosts: tuple[str, ...]
    revoked_host_keys: str
    identity_files: tuple[str, ...]
    certificate_files: tuple[str, ...]
    identities_only: bool
    #: The socket of an SSH agent, "" for none.
    agent: str
    #: Hosts to go through, the first one first.
    jumps: tuple[str, ...]
    #: A shell command from the user's own configuration, its tokens expanded.
    proxy_command: str
    #: Algorithms that the user has chosen, by asyncssh's name for the option.
    algorithms: Mapping[str, Sequence[str]]
    #: Other options of asyncssh.
    options: Mapping[str, Any]
    #: The keyword that asks for what only OpenSSH's own program can do, "" for none.
    only_openssh: str = ""
    #: What `ask_openssh` has returned for the host; None if there is no ``ssh`` program.
    asked: Any = None

    @property
    def key_name(self) -> str:
        """The host's name in known_hosts files."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"
