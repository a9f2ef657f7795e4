"""Hosts that any user can start: an sshd each, on a port of the loopback interface."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from .accounts import User, make_home
from .command import PATH, RigError, require, run
from .host import Host
from .proc import Entry, Socket, descendants, socket_inodes, sockets
from .rig import HERE, Rig


class LoopbackHost(Host):
    """One sshd of ours; name, users and files are this machine's, HOME alone is its own.

    Its processes are the descendants of its init, so those that :meth:`run` starts are not.
    sshd still starts programs in the user's real home: only ``$HOME`` says otherwise.
    """

    def __init__(self, name: str, directory: Path, user: User, key: str) -> None:
        # Bound but never listening, it reserves the port for sshd, also while that is stopped.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        address, port = self._reservation.getsockname()
        settings = {
            "Port": str(port),
            "ListenAddress": address,
            "AuthorizedKeysFile": str(user.home / ".ssh/authorized_keys"),
            # The directories above are not the user's, and one of them anybody may write to.
            "StrictModes": "no",
            "SetEnv": f"HOME={user.home}",
        }
        homes = {user.name: user.home}
        super().__init__(name, directory, address, port, homes, settings, key)

    def power_on(self) -> None:
        if not self.has_power:
            argv = [sys.executable, "-I", str(HERE / "subreaper.py"), "bash", str(HERE / "init.sh")]
            self._init.start(argv)
            self.start_sshd()

    def close(self) -> None:
        self._init.close()
        self._reservation.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: str | bytes = b"",
        check: bool = True,
        timeout: float = 20,
    ) -> str:
        if user not in (None, self.user):
            raise RigError(f"{self.name} has no user {user!r} (known: {self.user})")
        home = str(self.home)
        env = {
            "HOME": home,
            "LANG": "C.UTF-8",
            "LOGNAME": self.user,
            "PATH": PATH,
            "SHELL": "/bin/bash",
            "USER": self.user,
        }
        argv = ["env", "-C", home, *argv]
        return run(argv, stdin=stdin, env=env, check=check, timeout=timeout)

    def _members(self) -> list[Entry]:
        return descendants(self._init.pid) if self.has_power else []

    def _sockets(self) -> list[Socket]:
        """Those of its processes, and those on its port: a session's own may not be looked at."""
        held = {inode for entry in self._members() for inode in socket_inodes(entry.pid)}
        return [s for s in sockets() if s.inode in held or s.port == self.port]

    def _user_name(self, uid: int) -> str:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def _is_init(self, entry: Entry) -> bool:
        return self.has_power and entry.pid == self._init.pid


class LoopbackRig(Rig):
    """Hosts without privileges and without faults; the user can only log in as itself."""

    faults = False
    own_address = False

    def _prepare(self, stack: ExitStack) -> None:
        if not sys.platform.startswith("linux"):
            raise RigError("hosts need Linux: its /proc, and child subreapers")
        require("bash", "ssh-keygen", "sshd")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # root's sshd insists on it
        self._keep(stack)

    def _host(self, letter: str) -> LoopbackHost:
        directory = self.directory / letter
        directory.mkdir()
        account = pwd.getpwuid(os.geteuid())
        user = User(account.pw_name, account.pw_uid, directory / "home")
        make_home(user, chown=False)
        return LoopbackHost(f"{self.name}-{letter}", directory, user, self.client.public_key)
