"""A set of hosts and a client that may log in to them."""

from __future__ import annotations

import abc
import secrets
import shlex
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from .client import Client
from .command import program
from .host import Host
from .lifeline import Lifeline
from .relay import Relay

HERE = Path(__file__).parent

# Not /tmp: hosts have their own.  Short, for the sake of paths of Unix sockets.
BASE = Path("/var/tmp")


class Rig(abc.ABC):
    """Hosts from ``with`` to the end of its block; nothing of them is left afterwards."""

    faults: ClassVar[bool]
    """Whether hosts can lose power, packets and so on."""
    own_address: ClassVar[bool]
    """Whether each host has its own address, name, users, processes and ``/tmp``."""

    hosts: Sequence[Host]
    client: Client

    def __init__(self, count: int = 3) -> None:
        if not 1 <= count <= 26:
            raise ValueError(f"a rig has 1 to 26 hosts, not {count}")
        self._letters = "abcdefghijklmnopqrstuvwxyz"[:count]
        self._stack = ExitStack()
        self.hosts = ()
        self.name = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} hosts={len(self.hosts)}>"

    def __enter__(self) -> Rig:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @abc.abstractmethod
    def _host(self, letter: str) -> Host:
        """Make one host, without power; called in a thread of its own."""

    @abc.abstractmethod
    def _prepare(self, stack: ExitStack) -> None:
        """Make what hosts need, in :attr:`directory`."""

    def _acceptable(self, number: int) -> bool:
        """Whether the rig may take that random number, of which names and addresses are made."""
        return True

    def _open(self, stack: ExitStack) -> None:
        self.number, self.directory = self._claim()
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.name = self.directory.name
        self._prepare(stack)
        self.client = Client(self.directory / "client")
        with ThreadPoolExecutor(len(self._letters)) as pool:
            self.hosts = tuple(pool.map(self._host, self._letters))
            for host in self.hosts:
                stack.callback(host.close)
            list(pool.map(lambda host: host.power_on(), self.hosts))
        for host in self.hosts:
            self.client.alias(host.name, host.address, host.port, host.user)
            self.trust(host)

    def _claim(self) -> tuple[int, Path]:
        """Make the rig's directory; its name makes the number unique on this machine."""
        while True:
            number = secrets.randbelow(1 << 16)
            directory = BASE / f"rig-{number:04x}"
            if self._acceptable(number):
                try:
                    directory.mkdir()
                except FileExistsError:
                    continue
                directory.chmod(0o755)  # hosts' users must reach their homes, whatever our umask
                return number, directory

    def _keep(self, stack: ExitStack, *prefix: str, link: str = "") -> Lifeline:
        """Start the process that removes the directory in the end, whatever happens to us."""
        argv = [*prefix, program("bash"), str(HERE / "keeper.sh"), str(self.directory), link]
        keeper = Lifeline(self.directory / "keeper.log")
        stack.callback(keeper.close)
        keeper.start(argv)
        return keeper

    # -- the client's side -------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The client's HOME."""
        return self.client.home

    @property
    def environ(self) -> dict[str, str]:
        """What to add to the environment of a client."""
        return {"HOME": str(self.home)}

    @property
    def ssh(self) -> list[str]:
        """The start of a command line of OpenSSH's client; a host's ``target`` follows."""
        return [program("ssh"), "-F", str(self.client.config)]

    def ssh_argv(self, host: Host | Relay, argv: Sequence[str]) -> list[str]:
        """The command line that runs a program on a host over SSH."""
        return [*self.ssh, host.target, "--", shlex.join(argv)]

    def trust(self, host: Host) -> None:
        """Let the client know the host key as it is now."""
        self.client.trust([host.name, host.address, host.address6], host.port, host.host_key)

    @contextmanager
    def relay(self, host: Host, delay_s: float = 0.0) -> Iterator[Relay]:
        """Put a TCP relay in front of a host's sshd, with that delay each way."""
        with Relay((host.address, host.port), delay_s, name=f"{host.name}-relay") as relay:
            # Several relays of one host may exist: the port tells their aliases apart.
            relay.target = f"{host.name}-relay-{relay.port}"
            self.client.trust([relay.address, relay.target], relay.port, host.host_key)
            self.client.alias(relay.target, relay.address, relay.port, host.user)
            yield relay
