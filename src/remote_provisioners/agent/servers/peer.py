"""One server process, as its agent sees it: requests in, answers and events out.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict, Optional, Set

from ...protocol.agent_events import event_message
from ...protocol.agent_requests import REQUESTS
from ...protocol.answers import BAD_REQUEST, INTERNAL, Refusal
from ...protocol.structure import FieldError, Structure
from ...protocol.wire import Decoder, Message, WireError, encode
from ..background import Background, report_failure
from ..errors import RefusedError
from ..kernels.hosted_kernel import HostedKernel
from ..private_socket import same_user


class Peer(asyncio.Protocol):
    """The connection of one server process."""

    def __init__(
        self,
        answer: Callable[[Peer, Any], Awaitable[Structure]],
        on_connected: Callable[[Peer], None],
        on_lost: Callable[[Peer], None],
    ) -> None:
        """`answer` carries out a request. It may raise RefusedError."""
        self.owner = ""
        #: The version of the protocol that both ends speak.
        self.version = 0
        self.left = False
        #: Kernels that it has asked to start and that have not started yet.
        self.starts: Set[HostedKernel] = set()
        #: The ids of kernels that it is attached to, whoever owns them.
        self.attached: Set[str] = set()
        self._answer = answer
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._transport: Optional[asyncio.Transport] = None
        self._background = Background()

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not same_user(transport.get_extra_info("socket")):
            transport.abort()
            return
        self._transport = transport
        self._on_connected(self)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._background.run(self._serve(message), "an answer to a server", self.abort)
        except WireError as error:
            self._send({"error": Refusal(code=BAD_REQUEST, message=str(error)).fields()})
            if self._transport is not None:
                self._transport.close()

    async def _serve(self, message: Message) -> None:
        """Answer one request, also when it fails: the server waits for the answer."""
        answer: Dict[str, Any] = {"id": message.get("id")}
        refusal = None
        try:
            kind = REQUESTS.get(str(message.get("op")))
            if kind is None:
                text = "unknown operation {!r}".format(message.get("op"))
                raise RefusedError(BAD_REQUEST, text)
            answer["result"] = (await self._answer(self, kind.read(message))).fields()
        except RefusedError as error:
            refusal = Refusal(code=error.code, message=str(error))
        except FieldError as error:
            refusal = Refusal(code=BAD_REQUEST, message=str(error))
        except Exception as error:
            report_failure("operation {}".format(message.get("op")), error)
            refusal = Refusal(code=INTERNAL, message=repr(error))
        if refusal is not None:
            answer["error"] = refusal.fields()
        self._send(answer)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def tell(self, event: Any) -> None:
        """Send an event (protocol/agent_events.py)."""
        self._send(event_message(event))

    def _send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(encode(message))
