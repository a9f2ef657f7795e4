"""A simulated agent: the requests of protocol/agent_requests.py, without processes.

It answers at once; a kernel listens after a delay. It tells its load when the real one would:
when the number of its kernels changes, and at each tick if the load has changed notably, which
it does only once the agent is `restless`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from remote_provisioners.agent.kernels.kernel_table import TICK_SECONDS
from remote_provisioners.agent.machine.load import notable
from remote_provisioners.protocol.wire import Decoder, Message, encode

from . import meter

_MEMORY = 64 * 2**30


class Refused(Exception):
    """What the server is to be told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class SimulatedKernel:
    """All that an agent keeps of a kernel."""

    kernel_id: str
    owner: str
    key: str
    pid: int | None = None
    listening: bool = False
    exit_code: int | None = None


class SimulatedAgent:
    """The agent of one host. `listening_seconds` is what its kernels need until they listen."""

    def __init__(self, name: str, cores: int = 8, listening_seconds: float = 0.02) -> None:
        self.path = f"/tmp/remote-provisioners-0/{name}/agent.sock"
        self.cores = cores
        self.listening_seconds = listening_seconds
        self.kernels: dict[str, SimulatedKernel] = {}
        #: No disk, no memory: each start is refused.
        self.full = False
        #: Kernels of other users, which the agent counts.
        self.others = 0
        #: The most kernels that there have been.
        self.peak = 0
        self.told = 0
        self._load = 0.0
        self._last: Message | None = None
        self._peers: set[Peer] = set()
        self._starting: set[str] = set()
        self._waiting: deque[tuple[Peer, Message]] = deque()
        self._pids = iter(range(1000, 10**9))
        self._ticker: asyncio.TimerHandle | None = None
        self._due: asyncio.Handle | None = None

    def peer(self) -> Peer:
        """The protocol of a new connection."""
        return Peer(self)

    # -- operations -------------------------------------------------------------------------

    def op_hello(self, peer: Peer, request: Message) -> Message:
        peer.owner = request["owner"]
        self._peers.add(peer)
        owned = [self._describe(k) for k in self.kernels.values() if k.owner == peer.owner]
        return {
            "pid": 999,
            "hostname": "simulated",
            "home": "/home/user",
            "python": "3.11.7",
            "directory": self.path.rpartition("/")[0],
            "kernels": owned,
            "load": self._load_for(peer, self.snapshot()),
        }

    def op_start(self, peer: Peer, request: Message) -> Message | None:
        if self.full:
            raise Refused("host-full", "no room for the kernel's files")
        kernel_id = request["kernel_id"]
        self.kernels[kernel_id] = SimulatedKernel(
            kernel_id, peer.owner, request["connection"]["key"]
        )
        if len(self._starting) >= max(2, self.cores):
            self._waiting.append((peer, request))
            peer.send({"event": "queued", "kernel_id": kernel_id})
            return None
        return self._begin(peer, kernel_id)

    def op_listening(self, peer: Peer, request: Message) -> Message:
        return {}

    def op_signal(self, peer: Peer, request: Message) -> Message:
        kernel = self.kernels.get(request["kernel_id"])
        delivered = kernel is not None and _runs(kernel)
        if kernel is not None and delivered and request["signum"] in (9, 15):
            kernel.exit_code = -request["signum"]
            self._tell({"event": "exited", **self._describe(kernel)})
            self._changed()
        return {"delivered": delivered}

    def op_forget(self, peer: Peer, request: Message) -> Message:
        self._drop(request["kernel_id"])
        return {}

    def op_tail(self, peer: Peer, request: Message) -> Message:
        return {"tail": ""}

    def op_adopt(self, peer: Peer, request: Message) -> Message:
        kernel = self.kernels.get(request["kernel_id"])
        if kernel is None:
            raise Refused("no-kernel", f"no kernel {request['kernel_id']} here")
        kernel.owner = peer.owner
        return self._describe(kernel)

    def op_has_resources(self, peer: Peer, request: Message) -> Message:
        return {"present": True}

    def op_load(self, peer: Peer, request: Message) -> Message:
        return self._load_for(peer, self.snapshot())

    def op_leave(self, peer: Peer, request: Message) -> Message:
        for kernel in [k for k in self.kernels.values() if k.owner == peer.owner]:
            self._drop(kernel.kernel_id)
        return {}

    # -- kernels ----------------------------------------------------------------------------

    def _begin(self, peer: Peer, kernel_id: str) -> Message:
        kernel = self.kernels[kernel_id]
        kernel.pid = next(self._pids)
        self._starting.add(kernel_id)
        loop = asyncio.get_running_loop()
        loop.call_later(self.listening_seconds, self._metered, self._listens, kernel)
        self.peak = max(self.peak, len(self.kernels))
        self._changed()
        return self._describe(kernel)

    def _listens(self, kernel: SimulatedKernel) -> None:
        if self.kernels.get(kernel.kernel_id) is kernel and _runs(kernel):
            kernel.listening = True
            self._tell({"event": "listening", "kernel_id": kernel.kernel_id})
            self._started(kernel.kernel_id)

    def _started(self, kernel_id: str) -> None:
        self._starting.discard(kernel_id)
        while self._waiting and len(self._starting) < max(2, self.cores):
            peer, request = self._waiting.popleft()
            peer.send({"id": request["id"], "result": self._begin(peer, request["kernel_id"])})

    def _drop(self, kernel_id: str) -> None:
        if self.kernels.pop(kernel_id, None) is None:
            return
        for waiting in [w for w in self._waiting if w[1]["kernel_id"] == kernel_id]:
            self._waiting.remove(waiting)
            cancelled = {"code": "cancelled", "message": "the start was cancelled"}
            waiting[0].send({"id": waiting[1]["id"], "error": cancelled})
        self._started(kernel_id)
        self._changed()

    def _describe(self, kernel: SimulatedKernel) -> Message:
        directory = self.path.rpartition("/")[0]
        connection = {
            "transport": "ipc",
            "ip": f"{directory}/k/{kernel.kernel_id}/s",
            "shell_port": 1,
            "iopub_port": 2,
            "stdin_port": 3,
            "control_port": 4,
            "hb_port": 5,
            "key": kernel.key,
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
        }
        return {
            "kernel_id": kernel.kernel_id,
            "pid": kernel.pid,
            "started": 1000.0,
            "gpus": [],
            "cwd": "/home/user",
            "home": "/home/user",
            "connection": connection,
            "listening": kernel.listening,
            "exit_code": kernel.exit_code,
            "tail": "",
        }

    # -- load -------------------------------------------------------------------------------

    def be_restless(self) -> None:
        """From now on, the load changes notably from tick to tick."""
        if self._ticker is None:
            self._tick_after(random.uniform(0, TICK_SECONDS))

    def snapshot(self) -> Message:
        mine = sum(map(_runs, self.kernels.values()))
        return {
            "cores": self.cores,
            "load": self._load,
            "memory": _MEMORY,
            "memory_available": _MEMORY // 2,
            "kernels": mine + self.others,
            "mine": mine,
            "gpus_taken": [],
        }

    def _load_for(self, peer: Peer, load: Message) -> Message:
        """With how many of the kernels are of the server that is told."""
        yours = sum(_runs(k) for k in self.kernels.values() if k.owner == peer.owner)
        return {**load, "yours": yours}

    def _changed(self) -> None:
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_soon(self._metered, self._tell_news)

    def _tell_news(self) -> None:
        self._due = None
        now = self.snapshot()
        if notable(self._last, now):
            self._last = now
            self.told += 1
            for peer in self._peers:
                peer.send({"event": "load", **self._load_for(peer, now)})

    def _tick_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._ticker = loop.call_later(seconds, self._metered, self._tick)

    def _tick(self) -> None:
        self._tick_after(TICK_SECONDS)
        self._load = 0.4 * self.cores - self._load
        self._tell_news()

    # -- peers ------------------------------------------------------------------------------

    def disconnected(self, peer: Peer) -> None:
        self._peers.discard(peer)
        if not self._peers and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _tell(self, event: Message) -> None:
        for peer in self._peers:
            peer.send(event)

    def _metered(self, call: Callable[..., None], *args: object) -> None:
        with meter.agents:
            call(*args)


class Peer(asyncio.Protocol):
    """The connection of the server."""

    def __init__(self, agent: SimulatedAgent) -> None:
        self.owner = ""
        self._agent = agent
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._agent.disconnected(self)

    def data_received(self, data: bytes) -> None:
        with meter.agents:
            for message in self._decoder.feed(data):
                self._answer(message)

    def _answer(self, message: Message) -> None:
        try:
            result = getattr(self._agent, f"op_{message['op']}")(self, message)
        except Refused as error:
            refusal = {"code": error.code, "message": str(error)}
            self.send({"id": message["id"], "error": refusal})
            return
        if result is not None:  # else the answer comes later
            self.send({"id": message["id"], "result": result})

    def send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(encode(message))


def _runs(kernel: SimulatedKernel) -> bool:
    return kernel.pid is not None and kernel.exit_code is None
