"""The response address: where a launcher asks for its kernel's connection and reports back.

Protocol (docs/launchers.md): a ZeroMQ REQ socket of the launcher, a ROUTER of ours, CurveZMQ
(RFC 26: Curve25519, XSalsa20-Poly1305, by libsodium within libzmq) under it, JSON in it. The
launcher knows our public key from its argv, so it speaks to nobody else, and what passes is
encrypted; it proves that it is the launched one by the secret of its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

log = logging.getLogger(__name__)

#: The environment variable that holds the secret of one launch.
SECRET_VARIABLE = "RP_LAUNCH_SECRET"  # noqa: S105
_REQUIRED = ("transport", "ip", "shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


@dataclass
class ExpectedLaunch:
    """A launcher that is to report."""

    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    connection: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), repr=False
    )
    reported: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), repr=False
    )


class LauncherReports:
    """Serves every launcher of this process. Lives in the I/O thread."""

    def __init__(self, directory: Path) -> None:
        public, secret = zmq.curve_keypair()
        while public.startswith(b"-"):  # a launcher would take it for an option
            public, secret = zmq.curve_keypair()
        self.public_key = public.decode("ascii")
        self._expected: dict[str, ExpectedLaunch] = {}
        self._endpoints: list[str] = []
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1024 * 1024)
        self._socket.curve_server = True
        self._socket.curve_secretkey = secret
        self.listen(directory)
        self._task = asyncio.ensure_future(self._serve())

    def listen(self, directory: Path) -> None:
        """Have the socket in `directory`; also when it was elsewhere, and was removed there."""
        self.path = str(directory / "response")
        if os.path.lexists(self.path):
            return
        for endpoint in self._endpoints:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.unbind(endpoint)
        self._endpoints = [f"ipc://{self.path}"]
        self._socket.bind(self._endpoints[0])

    def expect(self, kernel_id: str) -> ExpectedLaunch:
        """Await the launcher of this kernel; it gets `connection` once that is set."""
        launch = self._expected[kernel_id] = ExpectedLaunch()
        return launch

    def forget(self, kernel_id: str) -> None:
        """No launcher of this kernel is awaited any more; its secret is void."""
        self._expected.pop(kernel_id, None)

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._socket.close()
        self._context.term()

    async def _serve(self) -> None:
        answering: set[asyncio.Task[None]] = set()
        while True:
            frames = await self._socket.recv_multipart()
            task = asyncio.ensure_future(self._reply(frames[:-1], frames[-1]))
            answering.add(task)
            task.add_done_callback(answering.discard)

    async def _reply(self, envelope: list[bytes], body: bytes) -> None:
        try:
            answer = await self._answer(json.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            answer = {"error": f"unreadable request: {error}"}
        await self._socket.send_multipart([*envelope, json.dumps(answer).encode()])

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        launch = self._expected.get(str(request["kernel_id"]))
        given = str(request["secret"]).encode()
        if launch is None or not hmac.compare_digest(given, launch.secret.encode()):
            log.warning("a launcher reported with a wrong secret; refused")
            return {"error": "not the launcher that is awaited"}
        if request["event"] == "launched":
            return {"connection": await launch.connection}
        if request["event"] == "listening":
            connection = dict(request["connection"])
            missing = [name for name in _REQUIRED if name not in connection]
            key = (await launch.connection)["key"]
            if connection.get("key", key) != key:
                return {"error": "the connection's key is not the one that was given"}
            if missing:
                return {"error": f"the connection lacks {', '.join(missing)}"}
            if not launch.reported.done():
                launch.reported.set_result(connection)
            return {}
        return {"error": f"unknown event {request['event']!r} (known: launched, listening)"}
