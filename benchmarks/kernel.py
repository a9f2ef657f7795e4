"""One kernel, driven through jupyter_client's public API.

Runs in the subject's own interpreter: it may import jupyter_client, pyzmq (which jupyter_client
brings) and the standard library only. No line knows which provisioner is behind the kernel.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

Message = dict[str, Any]


def make_context() -> zmq.asyncio.Context:
    context = zmq.asyncio.Context()
    # A client of a local kernel connects before the kernel has bound its ports. libzmq then tries
    # again every 100 ms, which would round the local start, our yardstick, up to a multiple of it.
    context.setsockopt(zmq.RECONNECT_IVL, 5)
    return context


class Kernel:
    """One kernel, its manager, and a client of it."""

    def __init__(self, context: zmq.asyncio.Context, kernel_name: str) -> None:
        self._context = context
        self.manager = AsyncKernelManager(kernel_name=kernel_name, context=context)
        self._client: AsyncKernelClient | None = None
        #: Bytes of output that were received and not looked at.
        self.discarded = 0

    @property
    def client(self) -> AsyncKernelClient:
        if self._client is None:
            raise RuntimeError("the kernel has no client yet")
        return self._client

    def connect(self, output: bool = True) -> None:
        """Make a client; anew after a restart, as a provisioner may have changed the ports.

        Without `output` it has no output channel.
        """
        self.disconnect()
        client = self.manager.client(context=self._context)
        # No heartbeat: its thread would be one more thing that the figures depend on.
        client.start_channels(hb=False, iopub=output)
        self._client = client

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
            self._client = None

    async def start(self) -> None:
        await self.manager.start_kernel()
        self.connect()
        await self.first_info()

    async def first_info(self) -> None:
        """Wait for the first kernel_info reply (wait_for_ready would add a fixed 0.2 s)."""
        while True:
            self.client.kernel_info()
            try:
                while True:
                    # Asked again each second: a tunnel may take a request before the kernel
                    # behind it listens, and lose it.
                    message = await self.client.shell_channel.get_msg(timeout=1.0)
                    if message["msg_type"] == "kernel_info_reply":
                        return
            except Empty:
                continue

    async def join_output(self) -> None:
        """Wait until the output channel is subscribed: what is published before is lost."""
        while True:
            try:
                await self.client.iopub_channel.get_msg(timeout=0.02)
                return
            except Empty:
                self.client.kernel_info()

    async def pid(self) -> int:
        request = self.client.execute("__import__('os').getpid()")
        messages = await self.output_of(request, lambda m: m["msg_type"] == "execute_result")
        return int(messages[-1]["content"]["data"]["text/plain"])

    async def round_trip(self) -> float:
        begun = time.perf_counter()
        request = self.client.kernel_info()
        while True:
            message = await self.client.shell_channel.get_msg(timeout=30.0)
            if message["parent_header"].get("msg_id") == request:
                return time.perf_counter() - begun

    async def drain(self) -> None:
        """Empty the output queue, which holds 1000 messages and then loses what comes."""
        try:
            while True:
                await self.client.iopub_channel.get_msg(timeout=0.05)
        except Empty:
            return

    async def output_of(self, request: str, until: Callable[[Message], bool]) -> list[Message]:
        """The output messages of one request, the one that satisfies ``until`` being the last."""
        messages: list[Message] = []
        while True:
            message = await self.client.iopub_channel.get_msg(timeout=None)
            if message["parent_header"].get("msg_id") == request:
                messages.append(message)
                if until(message):
                    return messages

    async def discard_output(self) -> None:
        """Receive what the kernel prints, and do nothing with it, until cancelled."""
        info = self.manager.get_connection_info()
        ip, port = info["ip"], info["iopub_port"]
        socket = self._context.socket(zmq.SUB)
        try:
            socket.subscribe(b"")
            socket.connect(
                f"ipc://{ip}-{port}" if info["transport"] == "ipc" else f"tcp://{ip}:{port}"
            )
            while True:
                self.discarded += sum(map(len, await socket.recv_multipart(copy=False)))
        finally:
            socket.close(0)

    async def dispose(self) -> None:
        """End the kernel in whatever state it is; never raises, never takes long."""
        self.disconnect()
        try:
            await asyncio.wait_for(self.manager.shutdown_kernel(now=True), 15)
        except Exception as error:  # the measure is over: what is left, the driver kills
            print(f"dispose: {error!r}", file=sys.stderr)


def is_idle(message: Message) -> bool:
    return is_status(message, "idle")


def is_status(message: Message, state: str) -> bool:
    return bool(message["msg_type"] == "status" and message["content"]["execution_state"] == state)
