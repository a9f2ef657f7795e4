"""The response address, at which launchers get their kernel's connection and report back.

The protocol (docs/launchers.md) is JSON between a launcher's ZeroMQ REQ socket and our ROUTER, over
CurveZMQ (RFC 26: Curve25519, XSalsa20-Poly1305, by libsodium within libzmq). The launcher has our
public key from its argv, so it talks only to us, and all messages are encrypted. The secret in its
environment proves that it is the launcher that we started.
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
    """A launcher that has to report."""

    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    connection: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), repr=False
    )
    reported: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), repr=False
    )


class LauncherReports:
    """Serves all launchers of this process. Lives in the I/O thread."""

    def __init__(self, directory: Path) -> None:
        public, secret = zmq.curve_keypair()
        while public.startswith(b"-"):  # a launcher would read it as an option
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
        try:
            self.listen(directory)
        except BaseException:
            self._socket.close()
            self._context.term()
            raise
        self._task = asyncio.ensure_future(self._serve())

    def listen(self, directory: Path) -> None:
        """Open the socket in `directory`, also after its former directory was removed."""
        self.path = str(directory / "response")
        if os.path.lexists(self.path):
            return
        for endpoint in self._endpoints:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.unbind(endpoint)
        self._endpoints = [f"ipc://{self.path}"]
        self._socket.bind(self._endpoints[0])

    def expect(self, kernel_id: str) -> ExpectedLaunch:
        """Expect a launcher of this kernel. It gets `connection` as soon as that is set."""
        launch = self._expected[kernel_id] = ExpectedLaunch()
        return launch

    def forget(self, kernel_id: str) -> None:
        """Expect no launcher of this kernel any more. Its secret becomes invalid."""
        launch = self._expected.pop(kernel_id, None)
        if launch is not None:
            launch.connection.cancel()  # one may wait for it

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
            log.warning("refused a launcher with a wrong secret")
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
