"""Connect to a host: parallel attempts, the circuit, retries. In the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ..errors import (
    AnotherMachineError,
    AuthenticationError,
    HostError,
    HostKeyError,
    KernelLostError,
    LoginWantedError,
    NodeGoneError,
    RemoteProvisionerError,
    UnreachableError,
    UnusablePythonError,
)
from ..placement.host_address import HostAddress
from . import keys, transport
from .transport import Transport

log = logging.getLogger(__name__)

Connection = TypeVar("Connection")

#: For an urgent connection: the time until the next parallel attempt, and the most attempts.
_NEXT_SECONDS = 1.0
_MOST = 5
_FIRST_PAUSE_SECONDS = 0.25
_AWAITED_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
#: After a refused login. Servers block clients that repeat refused logins.
_REFUSED_PAUSE_SECONDS = 60.0
_LONGEST_REFUSED_PAUSE_SECONDS = 900.0
#: A host that takes longer to fail is unresponsive, and no start waits for it again.
_UNRESPONSIVE_SECONDS = 1.0
_LAST_ATTEMPT_SECONDS = 3.0


@dataclass(frozen=True)
class OpenCircuit:
    """Why a host is not used. `unresponsive`: it does not answer, so a retry takes long."""

    error: HostError
    unresponsive: bool
    failures: int
    #: Seconds since the epoch.
    since: float
    #: The number of refused attempts in a row.
    refusals: int = 0

    def pause(self, awaited: bool) -> float:
        """Seconds until the next attempt. They grow and differ between servers.

        `awaited`: the host has kernels, and their users wait.
        """
        if self.refusals:
            growing = _REFUSED_PAUSE_SECONDS * 2.0 ** min(self.refusals - 1, 16)
            return min(growing, _LONGEST_REFUSED_PAUSE_SECONDS) * random.uniform(1, 1.25)  # noqa: S311
        growing = _FIRST_PAUSE_SECONDS * 2.0 ** min(self.failures - 1, 16)
        # A machine that is reached, but is not the one, is not logged in to every second.
        soon = awaited and not isinstance(self.error, AnotherMachineError)
        most = _AWAITED_PAUSE_SECONDS if soon else _LONGEST_PAUSE_SECONDS
        return min(growing, most) * random.uniform(0.75, 1.25)  # noqa: S311


class Reconnecting(Protocol[Connection]):
    """A host, as the Reconnector sees it."""

    address: HostAddress
    name: str

    @property
    def pythons(self) -> list[str]:
        """Interpreters that it may have, which some ways in need, the best one first."""

    @property
    def awaited(self) -> bool:
        """Whether it has kernels of ours, or pending kills."""

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""

    async def answers(self) -> bool:
        """Whether it answers over its connection."""

    def on_attempt(self) -> None:
        """A connection attempt begins."""

    async def complete(self, transport: Transport) -> Connection:
        """Turn `transport` into a connection. Raises HostError, KernelLostError."""

    def on_connected(self, connection: Connection) -> None:
        """The connection is made."""

    def on_agent_gone(self, reason: str) -> None:
        """The host is reachable, but the agent that had our kernels is gone; or an engine's node
        has ended, for this reason.
        """

    def on_change(self) -> None:
        """An attempt has begun, or the circuit has opened or closed."""


class Reconnector(Generic[Connection]):
    """Connects a host, with one attempt for all who wait for it.

    After a failure the circuit is open: starts go elsewhere, and attempts continue in the
    background until one succeeds.
    """

    def __init__(self, host: Reconnecting[Connection]) -> None:
        self._host = host
        self.circuit: OpenCircuit | None = None
        #: A connection with kernels was lost, so the next one is urgent.
        self.hurry = False
        self._dialer = Dialer(host.address)
        self._attempt: asyncio.Task[Connection] | None = None
        self._began = 0.0
        #: Whether the attempt has reached the agent.
        self._completing = False
        self._retrier: asyncio.Task[None] | None = None
        self._closed = False
        self._asked = asyncio.Event()

    @property
    def connecting_since(self) -> float | None:
        """When the current attempt began, by the monotonic clock; None without one."""
        return self._began if self._attempt is not None else None

    async def connect(self) -> Connection:
        """Await the current attempt, or a new one. Raises HostError, KernelLostError."""
        if self._attempt is None:
            self._began = time.monotonic()
            self._attempt = asyncio.ensure_future(self._connect())
            self._attempt.add_done_callback(self._ended)
            self._host.on_change()
        # Shielded, so that a cancelled start does not cancel the others' connection.
        return await asyncio.shield(self._attempt)

    async def _connect(self) -> Connection:
        try:
            return await self._make_connection()
        except RemoteProvisionerError:
            raise
        except Exception as error:  # a library does not expect what it has met; try again
            log.exception("host %s: cannot connect", self._host.name)
            raise UnreachableError(f"cannot connect: {error!r}", host=self._host.name) from error

    async def _make_connection(self) -> Connection:
        self._host.on_attempt()
        try:
            opened = await self._dial()
        except HostError as error:
            raise error.at(self._host.name) from None
        except asyncio.CancelledError:
            self._dialer.close()
            raise
        self._completing = True
        try:
            return await self._host.complete(opened)
        except BaseException:
            opened.abort()
            raise
        finally:
            self._completing = False

    async def _dial(self) -> Transport:
        """A connection, by the first interpreter that can where the way in needs one."""
        first: UnusablePythonError | None = None
        for python in list(self._host.pythons):
            try:
                opened = await self._dialer.connect(hurry=self.hurry, python=python)
            except UnusablePythonError as error:
                first = first or error
            else:
                if first is not None:
                    self._host.pythons.remove(python)
                    self._host.pythons.insert(0, python)
                return opened
        assert first is not None
        raise first

    def _ended(self, attempt: asyncio.Task[Connection]) -> None:
        self._attempt = None
        if attempt.cancelled():
            return
        error = attempt.exception()
        if error is None:
            self.hurry = False
            self._host.on_connected(attempt.result())
            self.close_circuit()
        elif isinstance(error, HostError):
            self.open_circuit(error, time.monotonic() - self._began > _UNRESPONSIVE_SECONDS)
        elif isinstance(error, KernelLostError):
            self._host.on_agent_gone(error.message if isinstance(error, NodeGoneError) else "")
        else:  # such as a configuration that somebody is editing: it must not be the last attempt
            self.open_circuit(UnreachableError(str(error)))

    def open_circuit(self, error: HostError, unresponsive: bool = False) -> None:
        """Make starts go elsewhere. The pauses between attempts grow."""
        earlier = self.circuit
        refused = is_refusal(error)
        refusals = (earlier.refusals if earlier else 0) + 1 if refused else 0
        self.circuit = OpenCircuit(
            error,
            # To ask again may help: somebody has just mended it.
            unresponsive and not refused,
            failures=earlier.failures + 1 if earlier else 1,
            since=earlier.since if earlier else time.time(),
            refusals=refusals,
        )
        self._host.on_change()
        if self._retrier is None and not self._closed:
            log.warning("host %s: circuit open: %s", self._host.address.label, error.message)
            self._retrier = asyncio.ensure_future(self._retry())

    def close_circuit(self) -> None:
        """The host can be used again."""
        if self.circuit is not None:
            log.info("host %s: can be used again", self._host.address.label)
            self.circuit = None
            self._host.on_change()

    def hasten(self) -> None:
        """Somebody waits for the host. Try again at once."""
        self._asked.set()

    async def _pause(self, circuit: OpenCircuit) -> None:
        """Pause before the next attempt, until somebody waits or the user's keys change."""
        seconds = circuit.pause(self._host.awaited)
        self._asked.clear()
        over: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(asyncio.sleep(seconds)),
            asyncio.ensure_future(self._asked.wait()),
        ]
        if circuit.refusals:
            over.append(asyncio.ensure_future(keys.until_changed(seconds)))
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in over:
                task.cancel()

    async def _retry(self) -> None:
        try:
            while self.circuit is not None:
                await self._pause(self.circuit)
                if self._host.connected:  # its circuit was opened for want of room, or of a word
                    if await self._host.answers():
                        self.close_circuit()
                    continue
                with contextlib.suppress(RemoteProvisionerError):
                    await self.connect()
        finally:
            self._retrier = None

    async def close(self) -> None:
        """Stop attempts. One that is starting an agent may finish: see Host.close."""
        self._closed = True
        attempt = self._attempt
        if attempt is not None and (self._completing or attempt.done()):
            await asyncio.wait([attempt], timeout=_LAST_ATTEMPT_SECONDS)
        for task in (self._attempt, self._retrier):
            if task is not None:
                task.cancel()
        self._dialer.close()


def is_refusal(error: BaseException) -> bool:
    """Whether the host was reached but refuses us, or we do not trust it."""
    if isinstance(error, LoginWantedError):  # to look whether she has logged in asks no host
        return False
    return isinstance(error, (AuthenticationError, HostKeyError))


class Dialer:
    """Makes connections to one address, several in parallel if it is urgent.

    A lost packet that begins a connection is sent again only after 1, 3 and 7 seconds. So an old
    attempt may still sleep when the network is back, and a new one is answered.
    """

    def __init__(self, address: HostAddress) -> None:
        self._address, self._python = address, ""
        self._attempts: set[asyncio.Task[Transport]] = set()

    async def connect(self, hurry: bool, python: str = "") -> Transport:
        """The first successful connection. Raises the HostError of the first failure.

        Attempts that are still running then count for the next call. `python`: the interpreter
        there, which some ways in need.
        """
        self._python = python
        self._begin()
        while True:
            wait = _NEXT_SECONDS if hurry and len(self._attempts) < _MOST else None
            done, _ = await asyncio.wait(
                self._attempts, timeout=wait, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                self._begin()
                continue
            made = [task for task in done if task.exception() is None]
            if made:
                self._attempts.discard(made[0])
                self.close()
                return made[0].result()
            self._attempts -= done
            error = next(iter(done)).exception() or AssertionError()
            if is_refusal(error):  # the others would be refused as well
                self.close()
            raise error

    def _begin(self) -> None:
        self._attempts.add(asyncio.ensure_future(transport.connect(self._address, self._python)))

    def close(self) -> None:
        """Cancel attempts and drop connections that nobody waits for."""
        for task in self._attempts:
            task.cancel()
            # Cancelled just as it succeeds it may do so all the same.
            task.add_done_callback(_drop)
        self._attempts.clear()


def _drop(task: asyncio.Task[Transport]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
