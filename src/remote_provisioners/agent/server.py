"""The agent itself: a private unix socket, the servers connected to it, the kernels in its care.

One event loop, no threads. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Set

from . import doctor, resources
from .environment import session_free
from .hook import HookError, environment_after
from .kernel import Kernel, StartError
from .wire import Decoder, Message, WireError, encode

#: Seconds without a server or a kernel after which the agent ends itself.
IDLE_SECONDS = 60.0
#: Seconds that a kernel outlives the last contact with the server that owns it: a long weekend.
LEASE_SECONDS = 4 * 24 * 3600.0
_KILL_SECONDS = 0.5
_TICK_SECONDS = 20.0


class Agent:
    """Keeps the kernels of one user on one host, for any number of servers of that user.

    Each ``op_*`` method is an operation of the wire protocol: it takes the peer and the request
    and returns the result. It raises StartError for what the server is to be told.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.kernels: Dict[str, Kernel] = {}
        self.peers: Set[Peer] = set()
        self._kernels_directory = os.path.join(directory, "k")
        self._resources_directory = os.path.join(directory, "resources")
        self._base = session_free(os.environ)
        self._environments: Dict[str, asyncio.Task[Dict[str, str]]] = {}
        self._owner_left: Dict[str, float] = {}
        self._idle_since = time.monotonic()
        self._over = asyncio.Event()
        # It may be there: left by an agent that was killed, with kernels that still run.
        os.makedirs(self._kernels_directory, 0o700, exist_ok=True)

    # -- operations of the wire protocol ---------------------------------------------------

    async def op_hello(self, peer: Peer, request: Message) -> Message:
        """``{"owner": id of the server process}`` -> who we are and what we hold for it."""
        peer.owner = request["owner"]
        self._owner_left.pop(peer.owner, None)
        return {
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "home": os.path.expanduser("~"),
            "python": "{}.{}.{}".format(*sys.version_info),
            "directory": self.directory,
            "kernels": [k.describe() for k in self.kernels.values() if k.owner == peer.owner],
        }

    async def op_start(self, peer: Peer, request: Message) -> Message:
        """Start a kernel from data; the answer comes when its process runs.

        ``kernel_id``, ``argv`` (with ``{templates}``), ``substitutions`` for them, ``env`` (the
        kernelspec's, to be expanded), ``request_env`` (literal), ``cwd`` (candidates), ``hook``,
        ``python``, ``connection`` (transport, key, signature_scheme), ``port_range`` (lower,
        upper), ``resources`` (digest of a directory put before, or ""), ``reports_endpoints``
        (a launcher reports them to the server). Events follow: ``listening``, ``exited``.
        """
        kernel_id = request["kernel_id"]
        earlier = self.kernels.get(kernel_id)
        if earlier is not None and earlier.owner != peer.owner:
            raise StartError("bad-request", "kernel {} is another server's".format(kernel_id))
        kernel = Kernel(kernel_id, peer.owner, self._kernels_directory)
        if earlier is not None:  # its server starts it again: it has given up the earlier one
            self._end_now(earlier)
            kernel.take_over(earlier)
        self.kernels[kernel_id] = kernel
        try:
            resource_directory = resources.path(self._resources_directory, request["resources"])
            await kernel.start(request, self._environment, resource_directory, self._on_listening)
        except BaseException:
            self._drop(kernel)
            raise
        if self.kernels.get(kernel_id) is not kernel:  # forgotten while the hook ran
            self._end_now(kernel)
            kernel.discard()
            raise StartError("cancelled", "the start was given up")
        return kernel.describe()

    async def op_signal(self, peer: Peer, request: Message) -> Message:
        """Signal the process group of a kernel; ``delivered`` is false when it has ended."""
        kernel = self.kernels.get(request["kernel_id"])
        process = kernel.process if kernel else None
        return {"delivered": process is not None and process.signal(request["signum"])}

    async def op_forget(self, peer: Peer, request: Message) -> Message:
        """The server is done with this kernel: end it if it runs, remove its files."""
        kernel = self.kernels.get(request["kernel_id"])
        if kernel is not None:
            self._end_now(kernel)
            self._drop(kernel)
        return {}

    async def op_tail(self, peer: Peer, request: Message) -> Message:
        """The last lines that a kernel printed."""
        kernel = self.kernels.get(request["kernel_id"])
        return {"tail": kernel.process.tail() if kernel and kernel.process else ""}

    async def op_adopt(self, peer: Peer, request: Message) -> Message:
        """Make the asking server the owner of a kernel of this user. Raises StartError."""
        kernel = self.kernels.get(request["kernel_id"])
        if kernel is None:
            raise StartError("no-kernel", "no kernel {} here".format(request["kernel_id"]))
        kernel.owner = peer.owner
        return kernel.describe()

    async def op_has_resources(self, peer: Peer, request: Message) -> Message:
        """Whether the resource directory of this ``digest`` is here already."""
        return {"present": resources.present(self._resources_directory, request["digest"])}

    async def op_put_resources(self, peer: Peer, request: Message) -> Message:
        """Unpack a resource directory: ``digest`` and ``archive`` (tar, base64)."""
        try:
            resources.unpack(self._resources_directory, request["digest"], request["archive"])
        except (OSError, ValueError) as error:
            raise StartError("cannot-start", "kernelspec files: {}".format(error)) from None
        return {}

    async def op_examine(self, peer: Peer, request: Message) -> Message:
        """What `jupyter remote doctor` asks for: the interpreter and the kernel's package."""
        environ = dict(await self._environment(request["hook"]))
        return await doctor.examine(request["python"], request["package"], environ)

    async def op_leave(self, peer: Peer, request: Message) -> Message:
        """The server goes for good: end its kernels, and the agent too if nothing is left."""
        for kernel in [k for k in self.kernels.values() if k.owner == peer.owner]:
            self._end_now(kernel)
            self._drop(kernel)
        peer.left = True
        return {}

    # -- peers ------------------------------------------------------------------------------

    def disconnected(self, peer: Peer) -> None:
        self.peers.discard(peer)
        self._idle_since = time.monotonic()
        if any(other.owner == peer.owner for other in self.peers):
            return
        self._owner_left[peer.owner] = time.monotonic()
        if peer.left and not self.peers and not self.kernels:
            self._over.set()

    def _tell(self, owner: str, event: Message) -> None:
        for peer in self.peers:
            if peer.owner == owner:
                peer.send(event)

    # -- kernels ----------------------------------------------------------------------------

    async def _environment(self, hook: str) -> Mapping[str, str]:
        """The environment that kernels start from; each hook is run once, failures not kept."""
        if not hook:
            return self._base
        task = self._environments.get(hook)
        if task is None:
            task = asyncio.ensure_future(environment_after(hook, self._base, self.directory))
            self._environments[hook] = task
        try:
            return session_free(await asyncio.shield(task))
        except HookError as error:
            self._environments.pop(hook, None)
            raise StartError("hook-failed", str(error)) from None

    def _on_listening(self, kernel: Kernel) -> None:
        self._tell(kernel.owner, {"event": "listening", "kernel_id": kernel.kernel_id})

    def _on_child(self) -> None:
        for kernel in list(self.kernels.values()):
            if kernel.running and kernel.ended():
                self._tell(kernel.owner, {"event": "exited", **kernel.describe()})

    def _end_now(self, kernel: Kernel) -> None:
        if kernel.process is not None and kernel.process.signal(signal.SIGKILL):
            deadline = time.monotonic() + _KILL_SECONDS  # SIGKILL takes effect in microseconds
            while not kernel.ended() and time.monotonic() < deadline:
                time.sleep(0.0005)

    def _drop(self, kernel: Kernel) -> None:
        kernel.discard()
        if self.kernels.get(kernel.kernel_id) is kernel:
            del self.kernels[kernel.kernel_id]
        self._idle_since = time.monotonic()

    def _tick(self) -> None:
        """End kernels whose lease ran out, keep logs within bounds, end an idle agent."""
        now = time.monotonic()
        for kernel in list(self.kernels.values()):
            if kernel.running and kernel.process is not None:
                kernel.process.trim_log()
            if now - self._owner_left.get(kernel.owner, now) > LEASE_SECONDS:
                print("kernel {}: lease ran out, ended".format(kernel.kernel_id), flush=True)
                self._end_now(kernel)
                self._drop(kernel)
        idle = now - self._idle_since
        if not self.peers and not self.kernels and (idle > IDLE_SECONDS or self._out_of_reach()):
            self._over.set()

    def _out_of_reach(self) -> bool:
        """Whether somebody has removed our socket: no server will find us any more."""
        return not os.path.exists(os.path.join(self.directory, "agent.sock"))

    # -- life -------------------------------------------------------------------------------

    async def serve(self, listener: socket.socket, ready: int) -> None:
        """Serve until idle. `ready` is a descriptor to write a byte to once we listen."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        loop.add_signal_handler(signal.SIGTERM, self._over.set)
        # Handled, not ignored: what is ignored here would be ignored by every kernel as well.
        for signum in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, lambda: None)
        server = await loop.create_unix_server(lambda: Peer(self), sock=listener)
        os.write(ready, b"+")
        os.close(ready)
        with contextlib.suppress(asyncio.CancelledError):
            while not self._over.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._over.wait(), _TICK_SECONDS)
                self._tick()
        server.close()
        for kernel in list(self.kernels.values()):
            self._end_now(kernel)
            self._drop(kernel)


class Peer(asyncio.Protocol):
    """The connection of one server process."""

    def __init__(self, agent: Agent) -> None:
        self.owner = ""
        self.left = False
        self._agent = agent
        self._decoder = Decoder()
        self._transport: Optional[asyncio.Transport] = None
        self._tasks: List[asyncio.Task[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not _same_user(transport.get_extra_info("socket")):
            transport.abort()
            return
        self._transport = transport
        self._agent.peers.add(self)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._transport = None
        self._agent.disconnected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                task = asyncio.ensure_future(self._answer(message))
                self._tasks = [t for t in self._tasks if not t.done()] + [task]
        except WireError as error:
            self.send({"error": {"code": "bad-request", "message": str(error)}})
            if self._transport is not None:
                self._transport.close()

    async def _answer(self, message: Message) -> None:
        answer: Dict[str, Any] = {"id": message.get("id")}
        try:
            operation = getattr(self._agent, "op_" + str(message.get("op")), None)
            if operation is None:
                raise StartError("bad-request", "unknown operation {!r}".format(message.get("op")))
            answer["result"] = await operation(self, message)
        except StartError as error:
            answer["error"] = {"code": error.code, "message": str(error)}
        except Exception as error:  # whatever it is, the server must not wait for an answer
            answer["error"] = {"code": "internal", "message": repr(error)}
        self.send(answer)

    def send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(encode(message))


def _same_user(connection: Any) -> bool:
    """Whether the peer of a unix socket is our own user: the socket's mode says so already."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())
