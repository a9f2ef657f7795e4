"""The channel to an agent: requests with answers, and events."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import (
    AgentError,
    GpusTakenError,
    HostError,
    HostFullError,
    KernelLostError,
    KernelStartError,
    KernelTakenError,
    ProgramNotFoundError,
    RemoteProvisionerError,
    UnreachableError,
)
from ..protocol import answers
from ..protocol.agent_events import read_event
from ..protocol.agent_requests import Request
from ..protocol.structure import FieldError, Structure
from ..protocol.wire import Decoder, Message, WireError, encode

log = logging.getLogger(__name__)

A = TypeVar("A", bound=Structure)

#: Refusals that are the host's fault, not the kernel's.
_HOST_ERRORS: dict[str, type[HostError]] = {
    answers.HOST_FULL: AgentError,
    answers.VERSION_REFUSED: AgentError,
    answers.NO_GPUS: GpusTakenError,
    answers.NO_ROOM: HostFullError,
}
_START_ERRORS = {answers.NO_PROGRAM: ProgramNotFoundError}
#: Refusals about existing kernels.
_LOST_ERRORS = {answers.NO_KERNEL: KernelLostError, answers.TAKEN: KernelTakenError}


class SilentError(UnreachableError):
    """The connection is there, and nothing comes over it."""


class ChannelLostError(UnreachableError):
    """The connection to the agent ended before the answer."""


class AgentChannel(asyncio.Protocol):
    """One server process's connection to one agent. Lives in the I/O thread."""

    def __init__(self, host: str, on_event: Callable[[Any], None]) -> None:
        """`on_event` gets the events of protocol/agent_events.py."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._on_event = on_event
        self._decoder = Decoder()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._transport: Any = None
        #: When the host was last heard of, over this channel or over another of its connection.
        self.heard = time.monotonic()

    async def request(self, request: Request[A]) -> A:
        """Send a request and return the answer.

        Raises KernelStartError, KernelLostError or AgentError if the agent refuses, AgentError if
        the answer cannot be read, and ChannelLostError if the connection is lost before it.
        """
        if self._transport is None:
            raise ChannelLostError("the connection to the agent is gone", host=self._host)
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            try:
                self._transport.write(encode({"id": number, "op": request.op, **request.fields()}))
            except OSError:  # closed: the transport calls connection_lost later
                answer.cancel()
                self.connection_lost(None)
                raise self._lost() from None
            read: A = request.answer.read(await answer)  # type: ignore[assignment]
            return read
        except FieldError as error:
            text = f"the agent's answer to {request.op} cannot be read: {error}"
            raise AgentError(text, host=self._host) from None
        finally:
            self._waiting.pop(number, None)

    async def unless_silent(
        self, asked: Coroutine[Any, Any, A], accepted: asyncio.Event, patience: float
    ) -> A:
        """What `asked` gives. Raises SilentError where nothing is heard for `patience` seconds,
        before the answer and before it is `accepted`.
        """
        task = asyncio.ensure_future(asked)
        accepting = asyncio.ensure_future(accepted.wait())
        since = time.monotonic()
        try:
            while not task.done() and not accepting.done():
                left = max(since, self.heard) + patience - time.monotonic()
                if left <= 0:
                    text = f"it is connected, and has said nothing for {patience:.0f} s"
                    raise SilentError(text, host=self._host)
                both = (task, accepting)
                await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            return await task
        finally:
            task.cancel()
            accepting.cancel()

    def close(self) -> None:
        """Close the connection. The agent keeps everything."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        try:
            for message in self._decoder.feed(data):
                self._dispatch(message)
        except WireError as error:
            self._fail(AgentError(f"the agent speaks another protocol: {error}", host=self._host))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(self._lost())
        if not self.closed.done():
            self.closed.set_result(None)

    def _dispatch(self, message: Message) -> None:
        if "event" in message:
            self._tell(message)
            return
        answer = self._waiting.get(message.get("id", 0))
        if answer is None or answer.done():
            return  # its caller was cancelled
        if "error" in message:
            answer.set_exception(_translate(message["error"], self._host))
        else:
            answer.set_result(message.get("result", {}))

    def _tell(self, message: Message) -> None:
        """Pass on an event. An invalid event must not end the connection."""
        try:
            event = read_event(message)
            if event is not None:
                self._on_event(event)
        except FieldError as error:
            log.warning("host %s: ignored an invalid event of the agent: %s", self._host, error)
        except Exception:
            log.exception("host %s: event %s", self._host, message.get("event"))

    def _lost(self) -> ChannelLostError:
        return ChannelLostError("the connection to the agent was lost", host=self._host)

    def _fail(self, error: HostError) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)


def _translate(error: Any, host: str) -> RemoteProvisionerError:
    try:
        refusal = answers.Refusal.read(error)
    except FieldError:
        refusal = answers.Refusal(message=str(error))
    code, message = refusal.code, refusal.message
    if code in _HOST_ERRORS:
        return _HOST_ERRORS[code](message, host=host)
    if code in _LOST_ERRORS:
        return _LOST_ERRORS[code](message, host=host)
    if code in _START_ERRORS:
        return _START_ERRORS[code](message, host=host)
    if code == answers.HOOK_FAILED:
        return KernelStartError(f"the environment hook failed: {message}", host=host)
    return KernelStartError(message, host=host)
