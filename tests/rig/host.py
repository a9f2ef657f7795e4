"""One host: what tests see of it and do to it."""

from __future__ import annotations

import abc
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .command import RigError
from .lifeline import Lifeline
from .proc import ESTABLISHED, LISTEN, Entry, Process, Socket
from .sshd import Sshd
from .view import view

# Creates what is missing above the file; the mode is never wider than asked for.
WRITE = 'umask 077; mkdir -p -- "$(dirname -- "$1")" && cat >"$1" && chmod "$2" "$1"'


def wait_until(condition: Callable[[], object], timeout: float = 5) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Host(abc.ABC):
    """A host with a real sshd.  ``homes`` holds the home of each user one can log in as."""

    address6: str = ""

    def __init__(
        self,
        name: str,
        directory: Path,
        address: str,
        port: int,
        homes: Mapping[str, Path],
        settings: Mapping[str, str],
        key: str,
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.homes = dict(homes)
        self.user = next(iter(self.homes))
        self._directory = directory
        self._sshd = Sshd(directory, settings)
        self._client_key = key
        self._init = Lifeline(directory / "init.log")
        self.accept_keys()

    def __repr__(self) -> str:
        power = "on" if self.has_power else "off"
        return f"<{type(self).__name__} {self.name} {self.address}:{self.port} power={power}>"

    @property
    def target(self) -> str:
        """What to write for this host in an ssh command: its alias in the client's config."""
        return self.name

    @property
    def has_power(self) -> bool:
        return self._init.running

    @property
    def home(self) -> Path:
        """The home of :attr:`user`."""
        return self.homes[self.user]

    @property
    def host_key(self) -> str:
        return self._sshd.public_key

    # -- what a kind of host defines ---------------------------------------------------------

    @abc.abstractmethod
    def power_on(self) -> None:
        """Boot, and return when sshd listens."""

    @abc.abstractmethod
    def close(self) -> None:
        """End every process of the host, for good."""

    @abc.abstractmethod
    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: str | bytes = b"",
        check: bool = True,
        timeout: float = 20,
    ) -> str:
        """Run a program on the host, not over SSH; return its output.

        Its environment is clean, its directory the user's home.  Raises CommandError.
        """

    @abc.abstractmethod
    def _members(self) -> list[Entry]:
        """All processes of the host, its init and sshd too."""

    @abc.abstractmethod
    def _sockets(self) -> list[Socket]:
        """All TCP sockets of the host."""

    @abc.abstractmethod
    def _user_name(self, uid: int) -> str: ...

    @abc.abstractmethod
    def _is_init(self, entry: Entry) -> bool: ...

    # -- looking at it -----------------------------------------------------------------------

    def processes(self) -> list[Process]:
        """What runs here, but for init and sshd itself; zombies do not run."""
        members = self._members()
        inner = {entry.pid: entry.inner for entry in members}
        return [
            Process(e.inner, inner.get(e.ppid, 0), self._user_name(e.uid), e.argv)
            for e in sorted(members, key=lambda e: e.inner)
            if not e.is_sshd and not self._is_init(e)
        ]

    def listening(self) -> list[str]:
        """TCP listeners, sshd's too, as ``ss -ltnH`` writes them: ``127.0.0.1:80``, ``[::]:22``."""
        return sorted({str(s) for s in self._sockets() if s.state == LISTEN})

    def tcp_connections(self) -> int:
        """How many TCP connections to the SSH port are established, as the host sees it."""
        return sum(s.port == self.port and s.state == ESTABLISHED for s in self._sockets())

    def files(self, path: str | os.PathLike[str]) -> list[str]:
        """Paths below a directory, relative to it; those of directories end with a slash.

        Without what every host sees of this machine: a checkout may lie below ``/tmp``.
        """
        _, shown = view()
        ours = [word for path in shown for word in ("-path", path, "-prune", "-o")]
        expression = ["(", "-type", "d", "-printf", r"%P/\0", "-o", "-printf", r"%P\0", ")"]
        argv = ["find", os.fspath(path), "-mindepth", "1", *ours, *expression]
        return sorted(filter(None, self.run(argv, check=False).split("\0")))

    def write(
        self,
        path: str | os.PathLike[str],
        data: str | bytes,
        mode: int = 0o644,
        *,
        user: str | None = None,
    ) -> None:
        """Write a file, and the directories above it, as a user (by default :attr:`user`)."""
        argv = ["sh", "-c", WRITE, "sh", os.fspath(path), f"{mode:o}"]
        self.run(argv, stdin=data, user=user)

    def log(self) -> str:
        """What sshd logged."""
        return self._sshd.log()

    # -- its sshd ----------------------------------------------------------------------------

    def start_sshd(self) -> None:
        """Start sshd; return when it listens."""
        if not self.has_power:
            raise RigError(f"{self.name} has no power")
        if self._listener() is not None:
            return
        self._init.tell(self._sshd.prepare())
        wait_until(self._sshd.answered)
        if self._sshd.pid() is None:
            raise self._sshd.failure()

    def stop_sshd(self, *, sessions: bool = False) -> None:
        """Stop the listener.  Connections live on, as with a service manager, unless told."""
        listener = self._listener()
        doomed = [e for e in self._members() if e.is_sshd] if sessions else []
        for entry in doomed + ([listener] if listener else []):
            with suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGKILL if sessions else signal.SIGTERM)
        if not wait_until(lambda: self._listener() is None):
            raise RigError(f"sshd of {self.name} did not stop")

    def restart_sshd(self) -> None:
        self.stop_sshd()
        self.start_sshd()

    def sshd_option(self, **options: str | None) -> None:
        """Merge options into sshd's configuration and restart it; None takes one back."""
        self._sshd.set_options(options)
        self.restart_sshd()

    def new_host_key(self) -> None:
        """Change the host key, which the client does not know: see :meth:`Rig.trust`."""
        self._sshd.new_key()
        self.restart_sshd()

    def refuse_keys(self) -> None:
        """Let nobody log in any more; connections that exist live on."""
        for home in self.homes.values():
            (home / ".ssh/authorized_keys").unlink(missing_ok=True)

    def accept_keys(self) -> None:
        """Let the client log in: the state at the start."""
        for home in self.homes.values():
            keys = home / ".ssh/authorized_keys"
            keys.write_text(self._client_key + "\n")
            keys.chmod(0o644)

    def _listener(self) -> Entry | None:
        pid = self._sshd.pid()
        return next((e for e in self._members() if e.inner == pid and e.is_sshd), None)

    # -- faults, which only a rig with ``faults`` knows ---------------------------------------

    def power_off(self) -> None:
        """Lose power: every process is gone at once, and nobody on the network is told."""
        self._no_faults()

    def link_down(self) -> None:
        """Pull the network cable: both sides soon see "no route to host"."""
        self._no_faults()

    def link_up(self) -> None:
        """Plug it in again."""
        self._no_faults()

    def drop(self) -> None:
        """Lose every packet from and to the host, in silence."""
        self._no_faults()

    def lossy(self, percent: int) -> None:
        """Lose that share of the packets, each way."""
        self._no_faults()

    def heal(self) -> None:
        """Lose no more packets."""
        self._no_faults()

    def small_tmp(self, size: str = "1m") -> None:
        """Let ``/tmp`` hold no more than that, as tmpfs writes sizes: ``1m``, ``50%``."""
        self._no_faults()

    def share_tmp(self) -> None:
        """Have one ``/tmp`` with the rig's other hosts that share it, instead of its own."""
        self._no_faults()

    def _no_faults(self) -> NoReturn:
        raise RigError(f"{type(self).__name__} cannot inject faults (see Rig.faults)")
