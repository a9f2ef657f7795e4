"""Hosts made of namespaces: own network, name, users, processes, /tmp; and they can break."""

from __future__ import annotations

import functools
import os
import pwd
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from .accounts import User, make_home, write_accounts
from .command import PATH, CommandError, RigError, require, run
from .host import Host
from .proc import Entry, Socket, namespace_members, sockets
from .rig import HERE, Rig
from .switch import Addresses, Switch
from .view import view

UNSHARE = ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--mount-proc"]

#: The directory of a rig that all its hosts see.
SHARED = "shared"

# All that a rig will need the kernel to allow, in namespaces that are gone right after.
PROBE = """\
mount -t tmpfs tmpfs /tmp &&
ip link add name switch type bridge &&
ip link add name a type veth peer name b &&
ip addr add fd72:6967::1/64 dev a nodad &&
nft add table bridge rig
"""


class NamespaceHost(Host):
    """A host in its own network, UTS, IPC, mount and PID namespaces."""

    def __init__(
        self,
        name: str,
        directory: Path,
        addresses: tuple[str, str],
        users: Sequence[User],
        switch: Switch,
        key: str,
    ) -> None:
        self.address6 = addresses[1]
        self._addresses = addresses
        self._switch = switch
        self._port = name.rpartition("-")[2]
        # The same after each boot, or the client's neighbour table would lead astray.
        octets = map(int, addresses[0].split("."))
        self._mac = "02:72:" + ":".join(f"{octet:02x}" for octet in octets)
        self._users = {user.uid: user.name for user in users}
        homes = {user.name: user.home for user in users}
        super().__init__(name, directory, addresses[0], 22, homes, {}, key)

    def power_on(self) -> None:
        if self.has_power:
            return
        hidden, kept = view(self._directory, self._directory.parent / SHARED)
        boot = [str(HERE / "boot.sh"), str(self._directory), str(HERE / "init.sh"), self.name]
        argv = [*UNSHARE, "--kill-child", "--propagation", "private", "bash"]
        self._init.start([*argv, *boot, *hidden, "--", *kept])
        unshare = self._init.pid
        self._pid = int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text())
        self._switch.plug(self._port, self._pid, self._mac, self._addresses)
        self.start_sshd()

    def power_off(self) -> None:
        if not self.has_power:
            return
        # First the cable, or the kernel would say good-bye on behalf of the dying processes.
        with suppress(CommandError):
            self._switch.unplug(self._port)
        # The end of PID 1 waits for the end of all others, and unshare waits for PID 1.
        self._init.kill(self._pid)

    def close(self) -> None:
        self.power_off()
        self._init.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: str | bytes = b"",
        check: bool = True,
        timeout: float = 20,
    ) -> str:
        if not self.has_power:
            raise RigError(f"{self.name} has no power")
        user = user or self.user
        home = str(self.homes[user])
        env = {
            "HOME": home,
            "LANG": "C.UTF-8",
            "LOGNAME": user,
            "PATH": PATH,
            "SHELL": "/bin/bash",
            "USER": user,
        }
        enter = ["nsenter", f"--target={self._pid}", "--net", "--uts", "--ipc", "--mount", "--pid"]
        # If nsenter is killed, after the timeout, what it started must not live on.
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        become += ["--pdeathsig=KILL", "env", "-C", home]
        argv = [*enter, *become, *argv]
        return run(argv, stdin=stdin, env=env, check=check, timeout=timeout)

    def _members(self) -> list[Entry]:
        return namespace_members(self._pid) if self.has_power else []

    def _sockets(self) -> list[Socket]:
        return list(sockets(self._pid)) if self.has_power else []

    def _user_name(self, uid: int) -> str:
        if uid in self._users:
            return self._users[uid]
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def _is_init(self, entry: Entry) -> bool:
        return entry.inner == 1

    # -- faults ------------------------------------------------------------------------------

    def link_down(self) -> None:
        self._switch.set_link(self._port, "down")

    def link_up(self) -> None:
        self._switch.set_link(self._port, "up")

    def drop(self) -> None:
        self._switch.set_loss(self._port, 100)

    def lossy(self, percent: int) -> None:
        self._switch.set_loss(self._port, percent)

    def heal(self) -> None:
        self._switch.set_loss(self._port, 0)

    def small_tmp(self, size: str = "1m") -> None:
        self.run(["mount", "-o", f"remount,size={size}", "/tmp"])

    def share_tmp(self) -> None:
        shared = self._directory.parent / SHARED
        for path in (Path(p) for p in view()[1] if p.startswith("/tmp/")):
            seen = shared / path.relative_to("/tmp")
            self.run(["mkdir", "-p", str(seen)])
            self.run(["mount", "--bind", str(path), str(seen)])
        self.run(["mount", "--rbind", str(shared), "/tmp"])


class NamespaceRig(Rig):
    """Hosts on a network of their own; needs root.  Each also has an unprivileged user alice."""

    faults = True
    own_address = True

    @staticmethod
    @functools.cache
    def unavailable() -> str:
        """Why this machine cannot have such a rig; empty if it can.  Tries it, once."""
        if os.geteuid() != 0:
            return "not root"
        require("bash", "ip", "nft", "nsenter", "setpriv", "ssh-keygen", "sshd", "unshare")
        try:
            run([*UNSHARE, "bash", "-c", PROBE])
        except CommandError as error:
            return str(error)
        return ""

    def _acceptable(self, number: int) -> bool:
        return not Addresses(number).collide()

    def _prepare(self, stack: ExitStack) -> None:
        if reason := self.unavailable():
            raise RigError(f"no namespaces for hosts: {reason}")
        shared = self.directory / SHARED
        shared.mkdir()
        shared.chmod(0o1777)
        keeper = self._keep(stack, "unshare", "--net", link="uplink")
        self._addresses = Addresses(self.number)
        self._switch = Switch(keeper.pid, self.name, self._addresses)

    def _host(self, letter: str) -> NamespaceHost:
        directory = self.directory / letter
        etc = directory / "etc"
        etc.mkdir(parents=True)
        users = [
            User("root", 0, directory / "root"),
            User("alice", 20001, directory / "alice"),
        ]
        for user in users:
            make_home(user, chown=True)
        write_accounts(etc, users)
        (etc / "hostname").write_text(f"{self.name}-{letter}\n")
        (etc / "machine-id").write_text(f"{secrets.token_hex(16)}\n")
        (etc / "hosts").write_text(self._hosts_file())
        addresses = self._addresses.host(self._index(letter))
        name, key = f"{self.name}-{letter}", self.client.public_key
        return NamespaceHost(name, directory, addresses, users, self._switch, key)

    def _index(self, letter: str) -> int:
        return self._letters.index(letter) + 1

    def _hosts_file(self) -> str:
        names = {f"{self.name}-{letter}": self._index(letter) for letter in self._letters}
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for name, index in names.items():
            lines += [f"{address} {name}" for address in self._addresses.host(index)]
        return "\n".join(lines) + "\n"
