"""From a connection to a host to an agent that has said hello. Lives in the I/O thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ..errors import (
    AgentError,
    ForwardingError,
    HostError,
    KernelLostError,
    KernelStartError,
    UnreachableError,
    forwarding_advice,
)
from ..placement.host_address import HostAddress
from ..protocol.agent_requests import Hello
from ..protocol.answers import Welcome
from ..protocol.conventions import AGENT_SOCKET
from ..protocol.version import VERSION, VersionError, agree
from .agent_channel import AgentChannel, SilentError
from .deploy_agent import AgentGoneError, FoundAgent, find_agent
from .machine import Machine
from .transport import Transport

#: Of the agent, which needs no packages. The kernels' own is the kernelspec's matter.
_PYTHONS = ("python3", "python", *(f"python3.{minor}" for minor in range(14, 7, -1)))
#: How often to look for an agent that somebody else starts.
_AGENT_POLL_SECONDS = 0.02
#: How long an agent may take to answer `hello`.
_HELLO_SECONDS = 15.0


class AgentFinder:
    """Finds the agent of one host: of our version, or a former one that has kernels of ours."""

    def __init__(
        self,
        address: HostAddress,
        owner: str,
        former: str = "",
        check: Callable[[Machine], None] = lambda _: None,
    ) -> None:
        """`owner` names us to the agent. `former`: the directory of one of another version.
        `check` raises a HostError for a machine that we do not want.
        """
        self.former = former
        #: The directory of our agent, if it is known: a later login may have another TMPDIR.
        self.known = ""
        #: The kernel for which we start an agent (options/expected.py).
        self.expected = ""
        #: Interpreters that an agent may be started by, the one that has worked first.
        self.pythons = list(_PYTHONS)
        #: The machine that the host's name has led to the last time.
        self.machine = Machine()
        self._address = address
        self._name = str(address)
        self._owner = owner
        self._check = check

    async def reach(
        self, transport: Transport, on_event: Callable[[Any], None]
    ) -> tuple[AgentChannel, Welcome, float]:
        """A channel to the agent, its answer to hello and the seconds that took.

        Raises HostError, KernelLostError.

        A former agent is met where it was. If it was killed it is started again, by its own
        program: it knows the records of its kernels.
        """
        found = FoundAgent(f"{self.former}/{AGENT_SOCKET}", "", Machine())
        until, last_try = time.monotonic() + self._address.agent_seconds, False
        while True:
            if not self.former or (last_try and not self._address.brings_agent):
                found = await self._find(transport)
            channel = AgentChannel(self._name, on_event)
            try:
                meeting = self._meet(transport, channel, found)
                return channel, *await asyncio.wait_for(meeting, _HELLO_SECONDS)
            except asyncio.TimeoutError:
                channel.close()
                text = f"its agent has not answered for {_HELLO_SECONDS:.0f} s"
                raise SilentError(f"{text}: it is stopped, or it hangs", host=self._name) from None
            except (ConnectionError, UnreachableError) as error:
                # The agent that was found may have ended itself, idle, at this very moment.
                comes = isinstance(error, ConnectionRefusedError) and time.monotonic() < until
                if last_try and not comes:
                    raise self._why_not(error) from None
                last_try = True
                if comes:
                    await asyncio.sleep(_AGENT_POLL_SECONDS)
            except HostError as error:
                channel.close()
                raise error.at(self._name) from None
            except asyncio.CancelledError:
                channel.close()  # this machine's transport would not do it
                raise

    async def _find(self, transport: Transport) -> FoundAgent:
        try:
            found, python = await find_agent(
                transport, self.pythons, self._name, self.former, self.expected, known=self.known
            )
        except AgentGoneError as error:
            self._reached(error.machine)
            if not self.former:  # the host was rebooted, or nobody waits for that machine
                self.known = ""
                return await self._find(transport)
            text = f"its agent is gone from {self.former}: {error}"
            raise KernelLostError(text, host=self._name) from None
        self.pythons.remove(python)
        self.pythons.insert(0, python)
        self._reached(found.machine)
        return found

    def _reached(self, machine: Machine) -> None:
        """Raises what `check` raises."""
        self.machine = machine
        self._check(machine)

    async def _meet(
        self, transport: Transport, channel: AgentChannel, found: FoundAgent
    ) -> tuple[Welcome, float]:
        await transport.open(found.socket, lambda: channel)
        began = time.monotonic()
        return await self._greet(channel, found), time.monotonic() - began

    async def _greet(self, channel: AgentChannel, found: FoundAgent) -> Welcome:
        try:
            welcome = await channel.request(Hello(owner=self._owner, protocol=VERSION))
        except KernelStartError as error:  # of no kernel: it has greeted nobody yet
            raise AgentError(error.message, host=self._name) from None
        try:
            agree(welcome.protocol, f"the agent in {welcome.directory}")
        except VersionError as error:
            raise AgentError(str(error), host=self._name) from None
        if found.host and welcome.host and welcome.host != found.host:
            raise AgentError(
                f"the agent in {welcome.directory} runs on another host ({welcome.hostname}):\n"
                "both hosts share this directory. Give each host a TMPDIR of its own",
                host=self._name,
            )
        self.known = welcome.directory
        if welcome.boot:
            self._reached(Machine(welcome.hostname, welcome.boot))
        return welcome

    def _why_not(self, error: Exception) -> Exception:
        """Why an agent that answers on the host itself cannot be reached from here."""
        if self.former:
            text = f"its agent is gone from {self.former}"
            return KernelLostError(text, host=self._name)
        if self._address.is_local:
            return UnreachableError(f"the agent does not answer: {error}", host=self._name)
        # OpenSSH gives no reason of its own for a unix socket that it may not forward to.
        return ForwardingError(forwarding_advice(str(error)), host=self._name)
