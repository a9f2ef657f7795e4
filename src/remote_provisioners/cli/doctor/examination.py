"""The doctor's checks of one host, each a step further, up to a kernel that answers."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Awaitable, Callable

from ...errors import (
    AgentError,
    AuthenticationError,
    ConfigurationError,
    ForwardingError,
    HostKeyError,
    RemoteProvisionerError,
    RunAsError,
    UnknownHostError,
    UnreachableError,
)
from ...hosts import transport
from ...hosts.reconnect import is_refusal
from ...hosts.registry import host_registry
from ...hosts.transport.openssh_master import has_master
from ...placement.host_address import parse_address
from ...placement.inventory import HostSpec
from ...placement.way_in import COMMAND, DEFAULT_WAY, OPENSSH
from ...protocol.answers import Examined
from ...protocol.messages import Examine
from .bare_kernel import time_bare_kernel
from .findings import Finding
from .route import Route, read_route

PACKAGE = "ipykernel"

#: The check that an error belongs to, when it comes up in a step of several.
_CHECKS: dict[type[RemoteProvisionerError], str] = {
    ConfigurationError: "address",
    UnknownHostError: "name",
    UnreachableError: "ssh",
    HostKeyError: "host key",
    AuthenticationError: "login",
    RunAsError: "run as",
    ForwardingError: "forwarding",
    AgentError: "agent",
}
#: What to do, by check; {ssh}, {hook} and {python} are the commands for this host. What the
#: errors of the other checks say has it already.
_ADVICE = {
    "name": "check the spelling, or say where the host is: HostName in ~/.ssh/config",
    "port": "is sshd running there, on this port (HOST:PORT, or Port in ~/.ssh/config), and does "
    "a firewall let us through?",
    "ssh": "see what `{ssh} -v` says",
    "way in": "try it in a terminal: {way} true",
    "agent": "put that right on the host, or name another interpreter (3.8 or later) by --python",
    "hook": "try it on the host: {hook}; it must end with exit code 0",
    "interpreter": "name one that is there by --python (option `python`)",
    "kernel": "try it on the host: {python} -m ipykernel_launcher",
}


class Failed(Exception):
    """A check has failed: what was seen, and what to do."""

    def __init__(self, seen: str, advice: str) -> None:
        super().__init__(seen)
        self.seen = seen
        self.advice = advice


class Examination:
    """The checks of one host, to be run in the I/O thread."""

    def __init__(self, spec: HostSpec, timeout: float) -> None:
        self.spec = spec
        self._timeout = timeout
        self._route: Route | None = None
        #: What the one login has met with.
        self._met: RemoteProvisionerError | None = None
        self._program = ""

    async def run(self) -> list[Finding]:
        """All checks, up to the first that fails. Nothing is left on the host."""
        findings: list[Finding] = []
        for check, step in self._steps():
            finding = await self._find(check, step)
            if finding is not None:
                findings.append(finding)
            if finding is not None and not finding.ok:
                break
        return findings

    def _steps(self) -> list[tuple[str, Callable[[], Awaitable[str | None]]]]:
        by_ssh: list[tuple[str, Callable[[], Awaitable[str | None]]]] = [
            ("name", self._name),
            ("port", self._port),
            ("host key", self._host_key),
            ("login", self._login),
        ]
        by_command: list[tuple[str, Callable[[], Awaitable[str | None]]]] = [
            ("program", self._way_program),
            ("way in", self._way_in),
        ]
        address = self.spec.address
        way = by_command if self._by_command else [] if address.is_local else by_ssh
        return [
            ("address", self._address),
            *way,
            ("run as", self._run_as),
            ("agent", self._agent),
            ("hook", self._hook),
            ("interpreter", self._interpreter),
            ("kernel", self._kernel),
        ]

    @property
    def _by_command(self) -> bool:
        address = self.spec.address
        return address.way.kind == COMMAND or (address.is_here and not address.is_local)

    async def _find(self, check: str, step: Callable[[], Awaitable[str | None]]) -> Finding | None:
        """What `step` sees; None where it does not apply."""
        try:
            seen = await asyncio.wait_for(step(), self._timeout)
        except Failed as failure:
            return Finding(check, False, failure.seen, failure.advice)
        except (TimeoutError, asyncio.TimeoutError):
            seen = f"no answer within {self._timeout:g} s (--timeout)"
            return Finding(check, False, seen, self._advice(check))
        except RemoteProvisionerError as error:
            if check not in ("port", "hook", "kernel"):
                check = _CHECKS.get(type(error), check)
                check = "way in" if check == "ssh" and self._by_command else check
            advice = "" if "option `python`" in error.message else self._advice(check)
            return Finding(check, False, error.message, advice)
        return None if seen is None else Finding(check, True, seen)

    def _advice(self, check: str) -> str:
        address = self.spec.address
        host = f"{address.user}@{address.host}" if address.user else address.host
        ssh = ["ssh", *(["-p", str(address.port)] if address.port else []), host]
        return _ADVICE.get(check, "").format(
            ssh=shlex.join(ssh),
            hook=shlex.join(["bash", "-c", self.spec.hook]),
            python=self._program or "python",
            way=shlex.join((*address.way.command, *address.way.become)),
        )

    # -- the checks, in order ---------------------------------------------------------------

    async def _address(self) -> str:
        parse_address(self.spec.name)
        address = self.spec.address
        if address.is_here:
            return "this machine, without SSH"
        return "readable" if address.way == DEFAULT_WAY else f"readable, by {address.way}"

    async def _way_program(self) -> str:
        way = self.spec.address.way
        program = (*way.command, *way.become)[0]
        found = shutil.which(program)
        if found is None:
            raise Failed(f"there is no program {program!r} on this machine", "install it")
        return found

    async def _way_in(self) -> str:
        """Have Python introduce itself there."""
        opened = await transport.connect(self.spec.address, self.spec.python)
        await opened.close()
        return "Python answers"

    async def _run_as(self) -> str | None:
        """It was checked on the way; a failure is named after this check."""
        return self.spec.address.way.run_as or None

    async def _name(self) -> str:
        route = self._route = await read_route(self.spec.address)
        alias = f"{route.host} by ~/.ssh/config" if route.host != self.spec.address.host else ""
        if route.proxy:
            # The name is the proxy's to resolve, the port the proxy's to reach.
            return ", ".join(filter(None, [alias, f"reached through {route.proxy}"]))
        found = ", ".join(await route.resolve())
        return f"{alias}: {found}" if alias and found != route.host else alias or found

    async def _port(self) -> str | None:
        assert self._route is not None
        if self._route.proxy:
            return None
        await self._log_in()
        address = self.spec.address
        if address.way.kind == OPENSSH and await has_master(address):
            return "logged in already: a master connection is there"
        if self._met is not None and not is_refusal(self._met):
            return f"{self._route.port} answers: {await self._route.greeting()}"
        return f"{self._route.port} answers"

    async def _log_in(self) -> None:
        """Log in, once: a server shuts out who connects and goes without that.

        The port is looked at by itself only where nobody can log in.
        """
        try:
            opened = await transport.connect(self.spec.address, self.spec.python)
        except RemoteProvisionerError as error:
            self._met = error
        else:
            await opened.close()

    async def _host_key(self) -> str:
        assert self._route is not None
        if self._route.proxy:
            await self._log_in()
        if self._met is not None and not isinstance(self._met, AuthenticationError):
            raise self._met
        return "the known one"

    async def _login(self) -> str:
        if self._met is not None:
            raise self._met
        assert self._route is not None
        return f"as {self._route.user}"

    async def _agent(self) -> str:
        agent = (await (await host_registry()).host(self.spec).link()).agent
        carried = self._by_command or self.spec.address.way.kind == OPENSSH
        forwarded = "" if self.spec.address.is_local or carried else ", sockets are forwarded"
        return f"Python {agent.python} on {agent.hostname}{forwarded}"

    async def _hook(self) -> str:
        await self._examined()
        return "works" if self.spec.hook else "none configured"

    async def _interpreter(self) -> str:
        found = await self._examined()
        if found.error:
            raise Failed(found.error, self._advice("interpreter"))
        self._program = found.program
        seen = f"{self._program} is Python {found.version}"
        if found.package is None:
            raise Failed(
                f"{seen}, without {PACKAGE}",
                f"on the host: {self._program} -m pip install {PACKAGE}; or name an interpreter "
                "that has it by --python (option `python`)",
            )
        return f"{seen} with {PACKAGE} {found.package}"

    async def _examined(self) -> Examined:
        """What the agent sees after the environment hook. Raises KernelStartError for a hook."""
        return (
            await (await host_registry())
            .host(self.spec)
            .request(Examine(hook=self.spec.hook, python=self.spec.python, package=PACKAGE))
        )

    async def _kernel(self) -> str:
        timing = await time_bare_kernel(self.spec, self._timeout)
        return f"first reply after {timing.start:.0f} ms, round trip {timing.round_trip:.1f} ms"
