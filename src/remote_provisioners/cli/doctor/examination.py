"""The doctor's checks of one host, step by step, up to a kernel that answers."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
from collections.abc import Awaitable, Callable

from ...errors import (
    AgentError,
    AuthenticationError,
    ConfigurationError,
    ForwardingError,
    HostKeyError,
    LoginWantedError,
    RemoteProvisionerError,
    RunAsError,
    UnknownHostError,
    UnreachableError,
    UnusablePythonError,
)
from ...hosts import transport
from ...hosts.reconnect import is_refusal
from ...hosts.registry import host_registry
from ...hosts.transport import Transport
from ...hosts.transport.by_openssh.master import has_master
from ...hosts.transport.local import LocalTransport
from ...placement.host_address import parse_address
from ...placement.inventory import HostSpec
from ...placement.way_in import AUTOMATIC, COMMAND, DEFAULT_WAY, OPENSSH
from ...protocol.agent_requests import Examine
from ...protocol.answers import Examined
from .bare_kernel import time_bare_kernel
from .findings import Finding
from .route import Route, read_route

PACKAGE = "ipykernel"

#: The check that an error belongs to, for steps that cover several checks.
_CHECKS: dict[type[RemoteProvisionerError], str] = {
    ConfigurationError: "address",
    UnknownHostError: "name",
    UnreachableError: "ssh",
    HostKeyError: "host key",
    AuthenticationError: "login",
    LoginWantedError: "login",
    RunAsError: "run as",
    ForwardingError: "forwarding",
    AgentError: "agent",
    UnusablePythonError: "agent",
}
#: Advice for each check. {ssh}, {hook} and {python} are the commands for this host. The errors of
#: other checks contain their advice.
_ADVICE = {
    "name": "check the spelling, or set HostName in ~/.ssh/config",
    "port": "check that sshd runs on this port (HOST:PORT, or Port in ~/.ssh/config) and that no "
    "firewall blocks it",
    "ssh": "run `{ssh} -v` and read its output",
    "way in": "try it in a terminal: {way} true",
    "agent": "fix this on the host, or name another interpreter (3.8 or later) with --python",
    "hook": "run it on the host: {hook}; it must exit with code 0",
    "interpreter": "name an existing one with --python (option `python`)",
    "kernel": "run it on the host: {python} -m ipykernel_launcher",
}


class Failed(Exception):
    """A check has failed, with an observation and advice."""

    def __init__(self, seen: str, advice: str) -> None:
        super().__init__(seen)
        self.seen = seen
        self.advice = advice


class Examination:
    """The checks of one host. Run them in the I/O thread."""

    def __init__(self, spec: HostSpec, timeout: float) -> None:
        self.spec = spec
        self._timeout = timeout
        self._route: Route | None = None
        #: The error of the one login.
        self._met: RemoteProvisionerError | None = None
        self._program = ""

    async def run(self) -> list[Finding]:
        """Run all checks up to the first failure. Leaves nothing on the host."""
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

    @property
    def _by_openssh(self) -> bool:
        return self.spec.address.way.kind == OPENSSH or self._chose_openssh

    @property
    def _chose_openssh(self) -> bool:
        chosen = self._route is not None and bool(self._route.only_openssh)
        return chosen and self.spec.address.way.kind == AUTOMATIC

    async def _find(self, check: str, step: Callable[[], Awaitable[str | None]]) -> Finding | None:
        """The result of `step`; None if it does not apply."""
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
            python=shlex.quote(self._program or "python"),
            way=shlex.join((*address.way.command, *address.way.become)),
        )

    # -- the checks, in order ---------------------------------------------------------------

    async def _address(self) -> str:
        parse_address(self.spec.name)
        address = self.spec.address
        if address.is_here:
            return "this machine, without SSH"
        return "valid" if address.way == DEFAULT_WAY else f"valid, by {address.way}"

    async def _way_program(self) -> str:
        way = self.spec.address.way
        program = (*way.command, *way.become)[0]
        found = shutil.which(program)
        if found is None:
            raise Failed(f"there is no program {program!r} on this machine", "install it")
        return found

    async def _way_in(self) -> str:
        """Start Python there and read its greeting."""
        opened = await self._connect()
        await opened.close()
        return "Python answers"

    async def _connect(self) -> Transport:
        """By the first interpreter that can, as a start does."""
        *others, last = (await host_registry()).host(self.spec).pythons
        for python in others:
            with contextlib.suppress(UnusablePythonError):
                return await transport.connect(self.spec.address, python)
        return await transport.connect(self.spec.address, last)

    async def _run_as(self) -> str | None:
        """The way in has checked this already. A failure carries the name of this check."""
        return self.spec.address.way.run_as or None

    async def _name(self) -> str:
        route = self._route = await read_route(self.spec.address)
        alias = f"{route.host}, from ~/.ssh/config" if route.host != self.spec.address.host else ""
        if route.proxy:
            # The proxy resolves the name and connects to the port.
            return ", ".join(filter(None, [alias, f"reached through {route.proxy}"]))
        found = ", ".join(await route.resolve())
        return f"{alias}: {found}" if alias and found != route.host else alias or found

    async def _port(self) -> str | None:
        assert self._route is not None
        if self._route.proxy:
            return None
        await self._log_in()
        if self._by_openssh and await has_master(self.spec.address):
            return "logged in already: a master connection is there"
        if self._met is not None and not is_refusal(self._met):
            return f"{self._route.port} answers: {await self._route.greeting()}"
        return f"{self._route.port} answers"

    async def _log_in(self) -> None:
        """Log in once. Servers block clients that connect often without logging in.

        The port is probed separately only if the login fails.
        """
        try:
            opened = await self._connect()
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
        return "known"

    async def _login(self) -> str:
        if self._met is not None:
            raise self._met
        assert self._route is not None
        by = f", by the ssh program ({self._route.only_openssh})" if self._chose_openssh else ""
        return f"as {self._route.user}{by}"

    async def _agent(self) -> str:
        link = await (await host_registry()).host(self.spec).link()
        seen = f"Python {link.agent.python} on {link.agent.hostname}"
        if link.transport.forwards:
            return f"{seen}, forwarding works"
        if isinstance(link.transport, LocalTransport):
            return seen
        return f"{seen}, one channel carries everything"

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
                f"run {shlex.quote(self._program)} -m pip install {PACKAGE} on the host, "
                "or name an interpreter that has it with --python (option `python`)",
            )
        return f"{seen} with {PACKAGE} {found.package}"

    async def _examined(self) -> Examined:
        """What the agent finds after the environment hook. Raises KernelStartError if it fails."""
        return (
            await (await host_registry())
            .host(self.spec)
            .request(Examine(hook=self.spec.hook, python=self.spec.python, package=PACKAGE))
        )

    async def _kernel(self) -> str:
        timing = await time_bare_kernel(self.spec, self._timeout)
        return f"first reply after {timing.start:.0f} ms, round trip {timing.round_trip:.1f} ms"
