"""The channel to an agent: requests that await their answers, events as they come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from ..errors import (
    AgentError,
    GpusTakenError,
    HostError,
    KernelLostError,
    KernelStartError,
    KernelTakenError,
    RemoteProvisionerError,
    UnreachableError,
)
from ..protocol.wire import Decoder, Message, WireError, encode

#: Codes of the agent's StartError for which the host is to blame, not the kernel.
_HOST_ERRORS: dict[str, type[HostError]] = {"host-full": AgentError, "no-gpus": GpusTakenError}
#: Of a kernel that was started before.
_LOST_ERRORS = {"no-kernel": KernelLostError, "taken": KernelTakenError}


class AgentChannel(asyncio.Protocol):
    """One server process's connection to one agent. Lives in the I/O thread."""

    def __init__(self, host: str, on_event: Callable[[Message], None]) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._on_event = on_event
        self._decoder = Decoder()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._transport: Any = None

    async def request(self, op: str, **fields: Any) -> Message:
        """Ask, and return the result.

        Raises KernelStartError, KernelLostError or AgentError for what the agent refuses,
        UnreachableError when the connection is lost before the answer.
        """
        if self._transport is None:
            raise UnreachableError("the connection to the agent is gone", host=self._host)
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            try:
                self._transport.write(encode({"id": number, "op": op, **fields}))
            except OSError:  # closed, which connection_lost is yet to say
                raise self._lost() from None
            return await answer
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Close the connection; the agent keeps what it holds."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
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
            self._on_event(message)
            return
        answer = self._waiting.get(message.get("id", 0))
        if answer is None or answer.done():
            return  # its caller was cancelled
        if "error" in message:
            answer.set_exception(_translate(message["error"], self._host))
        else:
            answer.set_result(message["result"])

    def _lost(self) -> UnreachableError:
        return UnreachableError("the connection to the agent was lost", host=self._host)

    def _fail(self, error: HostError) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)


def _translate(error: dict[str, str], host: str) -> RemoteProvisionerError:
    code, message = error.get("code", ""), error.get("message", "")
    if code in _HOST_ERRORS:
        return _HOST_ERRORS[code](message, host=host)
    if code in _LOST_ERRORS:
        return _LOST_ERRORS[code](message, host=host)
    if code == "hook-failed":
        return KernelStartError(f"the environment hook failed: {message}", host=host)
    return KernelStartError(message, host=host)
