"""The agent itself: a private unix socket, the servers connected to it, the kernels in its care.

One event loop, no threads. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import Any, Dict, List, Set

from ..protocol.wire import Message
from . import examine as doctor
from . import resource_store as resources
from .forking.templates import Templates
from .forking.warm_kernels import WarmKernels
from .kernels.environment_hook import Environments
from .kernels.hosted_kernel import HostedKernel, StartError
from .kernels.takeover import take_over
from .lease import LEASE_SECONDS, Leases, report
from .machine.load import Load, cores
from .machine.usage import Idleness, usage_of
from .processes import descriptors
from .processes.kernel_process import zombies
from .server_connection import Peer
from .start_queue import StartQueue
from .stream_server import Streams

#: Seconds without a server or a kernel after which the agent ends itself.
IDLE_SECONDS = 60.0
#: What a kernel whose lease is over has to end itself in.
_TERMINATE_SECONDS = 10.0
_KILL_SECONDS = 0.5
_TICK_SECONDS = 20.0


class Agent:
    """Keeps the kernels of one user on one host, for any number of servers of that user.

    Each ``op_*`` method is an operation of the wire protocol: it takes the peer and the request
    and returns the result. It raises StartError for what the server is to be told.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.kernels: Dict[str, HostedKernel] = {}
        self.peers: Set[Peer] = set()
        self._kernels_directory = os.path.join(directory, "k")
        self._resources_directory = os.path.join(directory, "resources")
        self._environments = Environments(directory)
        self._leases = Leases()
        self._idleness = Idleness()
        self._idle_since = time.monotonic()
        self._over = asyncio.Event()
        self._templates = Templates()
        self._warm = WarmKernels(self._kernels_directory, self._templates)
        self._strangers: Set[int] = set()
        self._queue = StartQueue(max(2, cores()))
        self._descriptor_limit = descriptors.raise_limit()
        self._streams = Streams(directory, self.kernels, self._notice)
        self._load = Load(directory, self._running, self._tell_all)
        self._since = time.time()
        python = "{}.{}.{}".format(*sys.version_info)
        self._identity = {"pid": os.getpid(), "python": python, "directory": directory}
        # It may be there: left by an agent that was killed, with kernels that still run.
        os.makedirs(self._kernels_directory, 0o700, exist_ok=True)

    # -- operations of the wire protocol ---------------------------------------------------

    async def op_hello(self, peer: Peer, request: Message) -> Message:
        """``{"owner": id of the server process}`` -> who we are and what we hold for it."""
        for other in [p for p in self.peers if p.owner == request["owner"] and p is not peer]:
            other.abort()  # it has lost that one; sshd here may not know for minutes
        peer.owner = request["owner"]
        self._note_owners()
        return {
            **self._identity,
            "hostname": socket.gethostname(),
            "home": os.path.expanduser("~"),
            "kernels": [k.describe() for k in self.kernels.values() if k.owner == peer.owner],
            "load": self._load_for(peer, self._load.snapshot()),
        }

    async def op_start(self, peer: Peer, request: Message) -> Message:
        """Start a kernel from data; the answer comes when its process runs.

        ``kernel_id``, ``argv`` (with ``{templates}``), ``substitutions`` for them, ``env`` (the
        kernelspec's, to be expanded), ``request_env`` (literal), ``cwd`` (candidates), ``hook``,
        ``python``, ``connection`` (transport, key, signature_scheme), ``port_range`` (lower,
        upper), ``resources`` (digest of a directory put before, or ""), ``reports_endpoints``
        (a launcher reports them to the server), ``gpus`` (``count`` of ``devices``; optional),
        ``preload`` (modules that a Python kernel is to find imported; optional), ``warm`` (how
        many such kernels to keep ready; optional), ``lease`` (seconds; optional),
        ``output`` (bounds of what is kept while nobody listens: ``memory``, ``disk``; optional),
        ``resources_from`` (where that directory is on the server; optional).
        An event ``queued`` (``ahead``: starts before it) comes first when it has to wait;
        ``listening``, ``exited`` follow.
        """
        kernel_id = request["kernel_id"]
        earlier = self.kernels.get(kernel_id)
        if earlier is not None and earlier.owner != peer.owner:
            raise StartError("bad-request", "kernel {} is another server's".format(kernel_id))
        kernel = HostedKernel(kernel_id, peer.owner, self._kernels_directory)
        kernel.output = request.get("output") or {}
        kernel.lease = float(request.get("lease", LEASE_SECONDS))
        if earlier is not None:  # its server starts it again: it has given up the earlier one
            self._end_now(earlier)
            self._streams.restarted(earlier, kernel)
            kernel.take_over(earlier)
            earlier.discard(files=False)
        self.kernels[kernel_id] = kernel
        peer.starts.add(kernel)
        try:
            # At once, and kept while it waits: who gets none may try another host.
            await kernel.take_gpus(request, self._load.temporary)
            await self._turn(peer, kernel)
            await kernel.start(
                request,
                self._environments.after,
                self._warm,
                resources.path(self._resources_directory, request["resources"]),
                self._on_listening,
            )
        except BaseException:
            self._end_now(kernel)
            self._drop(kernel)
            raise
        finally:
            peer.starts.discard(kernel)
        if kernel.process is not None:
            descriptors.restore_limit(kernel.process.pid, self._descriptor_limit)
        self._load.changed()
        return kernel.describe()

    async def op_listening(self, peer: Peer, request: Message) -> Message:
        """A launcher has reported to the server where its kernel listens: its start is over.

        ``connection``: what it reported.
        """
        kernel = self.kernels.get(request["kernel_id"])
        if kernel is not None and kernel.running:
            kernel.listening = True
            kernel.connection.update(request.get("connection") or {})
            kernel.save()
            self._queue.leave(kernel)
            self._streams.record(kernel)
        return {}

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
        """Make the asking server the owner of a kernel of this user. Raises StartError.

        One whose owner is connected is not given away, unless the server knows that ``owner``:
        then it has its record, and the connection is one that nobody has seen break yet. Of two
        that come with one record the second is refused.
        """
        kernel = self._existing(request)
        if kernel.owner != peer.owner:
            if kernel.owner in self._present() and request.get("owner") != kernel.owner:
                text = "kernel {} is another server's, which is connected"
                raise StartError("taken", text.format(kernel.kernel_id))
            self._tell(kernel.owner, {"event": "taken", "kernel_id": kernel.kernel_id})
            self._streams.adopted(kernel)
            kernel.owner = peer.owner
            self._note_owners()
            kernel.save()
        self._queue.leave(kernel)
        return kernel.describe()

    async def op_attach(self, peer: Peer, request: Message) -> Message:
        """How to reach a kernel that stays its owner's; kept, as by its owner, while we look."""
        kernel = self._existing(request)
        peer.attached.add(kernel.kernel_id)
        self._note_owners()
        return kernel.describe()

    async def op_announce(self, peer: Peer, request: Message) -> Message:
        """Show ``text`` in the next cell that this kernel runs."""
        self._streams.announce(self._existing(request), request["text"])
        return {}

    async def op_output(self, peer: Peer, request: Message) -> Message:
        """All that is kept of what a kernel printed."""
        process = self._existing(request).process
        return {"output": process.output() if process else ""}

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
        environ = dict(await self._environments.after(request["hook"]))
        return await doctor.examine(request["python"], request["package"], environ)

    async def op_load(self, peer: Peer, request: Message) -> Message:
        """How busy this host is (see Load.snapshot); ``yours``: kernels of the asking server."""
        return self._load_for(peer, self._load.snapshot())

    async def op_status(self, peer: Peer, request: Message) -> Message:
        """What is here, of whichever server: for somebody who looks at all hosts."""
        now = time.monotonic()
        connected = {other.owner for other in self.peers}
        self._note_owners()
        usage = self._sample(now)

        def of(kernel: HostedKernel) -> Message:
            pid = kernel.process.pid if kernel.process and kernel.running else 0
            used = usage.get(pid)
            return {
                "owner": kernel.owner,
                "owned": kernel.owner in connected,
                "memory": used.memory if used else None,
                "idle": self._idleness.seconds(pid, now),
                "lease_left": self._leases.left(kernel.owner, kernel.lease, now),
            }

        return {
            "agent": {**self._identity, "since": self._since, "others": self._other_agents()},
            "load": self._load.snapshot(),
            "kernels": [
                {
                    **{k: v for k, v in kernel.describe().items() if k != "connection"},  # a key
                    **of(kernel),
                }
                for kernel in self.kernels.values()
            ],
        }

    def _other_agents(self) -> List[str]:
        """The directories of this user's agents of other versions."""
        parent = os.path.dirname(self.directory)
        places = [os.path.join(parent, name) for name in os.listdir(parent)]
        return sorted(p for p in places if p != self.directory and _answers(p + "/agent.sock"))

    async def op_leave(self, peer: Peer, request: Message) -> Message:
        """The server goes for good: end its kernels, and the agent too if nothing is left.

        Those whose ids are in ``keep`` (optional) are left running, for who comes back.
        """
        kept = request.get("keep", ())
        for kernel in [k for k in self.kernels.values() if k.owner == peer.owner]:
            if kernel.kernel_id in kept:
                continue
            self._end_now(kernel)
            self._drop(kernel)
        peer.left = True
        return {}

    # -- peers ------------------------------------------------------------------------------

    def disconnected(self, peer: Peer) -> None:
        self.peers.discard(peer)
        self._idle_since = time.monotonic()
        self._note_owners()
        for kernel in list(peer.starts):  # nobody is there to hear that it runs
            self._end_now(kernel)
        if any(other.owner == peer.owner for other in self.peers):
            return
        for kernel in self.kernels.values():  # nobody is there to give up what never listens
            if kernel.owner == peer.owner:
                self._queue.leave(kernel)
                self._look_in(kernel.lease)
        if peer.left and not self.peers and not self.kernels:
            self._over.set()

    def _tell(self, owner: str, event: Message) -> None:
        """Tell the owner, and who is attached."""
        kernel_id = event["kernel_id"]
        for peer in [p for p in self.peers if p.owner == owner or kernel_id in p.attached]:
            peer.send(event)

    def _notice(self, text: str) -> None:
        """Something that whoever looks after servers and hosts should know."""
        report(text)
        for peer in [p for p in self.peers if p.owner]:
            peer.send({"event": "notice", "text": text})

    def _tell_all(self, event: Message) -> None:
        for peer in [p for p in self.peers if p.owner]:  # which have said hello
            peer.send(self._load_for(peer, event))

    def _load_for(self, peer: Peer, load: Message) -> Message:
        """A report on the load, from which a server can tell how much of it is its own."""
        own = sum(k.running and k.owner == peer.owner for k in self.kernels.values())
        return {**load, "yours": own}

    def _present(self) -> Set[str]:
        return {peer.owner for peer in self.peers}

    def _note_owners(self) -> None:
        """Who is there renews the leases of its kernels, who is attached those of the owner."""
        attached = {kernel_id for peer in self.peers for kernel_id in peer.attached}
        kernels = self.kernels.values()
        visited = {kernel.owner for kernel in kernels if kernel.kernel_id in attached}
        owners = {kernel.owner for kernel in kernels}
        self._leases.note(owners, self._present() | visited, time.monotonic())

    # -- kernels ----------------------------------------------------------------------------

    def _existing(self, request: Message) -> HostedKernel:
        """The kernel of a request, which has been started. Raises StartError."""
        kernel = self.kernels.get(request["kernel_id"])
        if kernel is None or kernel.process is None:
            raise StartError("no-kernel", "no kernel {} here".format(request["kernel_id"]))
        return kernel

    def _sample(self, now: float) -> Dict[int, Any]:
        """What the running kernels use, noted for how long they are idle."""
        groups = {k.process.pid for k in self.kernels.values() if k.process and k.running}
        usage = usage_of(groups)
        self._idleness.update(usage, now)
        return usage

    def _running(self) -> int:
        return sum(kernel.running for kernel in self.kernels.values())

    async def _turn(self, peer: Peer, kernel: HostedKernel) -> None:
        """Wait until `kernel` may start. Raises StartError when it is given up before."""

        def wait() -> None:
            ahead = self._queue.waiting - 1
            peer.send({"event": "queued", "kernel_id": kernel.kernel_id, "ahead": ahead})

        wanted = peer.connected and not kernel.given_up
        if not wanted or not await self._queue.enter(peer.owner, kernel, wait):
            raise StartError("cancelled", "the start was given up")

    def _on_listening(self, kernel: HostedKernel) -> None:
        self._queue.leave(kernel)
        self._streams.record(kernel)
        self._tell(kernel.owner, {"event": "listening", "kernel_id": kernel.kernel_id})

    def _on_child(self) -> None:
        for kernel in list(self.kernels.values()):
            if kernel.running and kernel.ended():
                self._queue.leave(kernel)
                self._tell(kernel.owner, {"event": "exited", **kernel.describe()})
                self._load.changed()

    def _end_now(self, kernel: HostedKernel) -> None:
        kernel.given_up = True
        self._queue.leave(kernel)
        if kernel.process is not None and kernel.process.signal(signal.SIGKILL):
            deadline = time.monotonic() + _KILL_SECONDS  # SIGKILL takes effect in microseconds
            while not kernel.ended() and time.monotonic() < deadline:
                time.sleep(0.0005)

    def _drop(self, kernel: HostedKernel) -> None:
        self._streams.drop(kernel)
        # A later start of the same kernel uses the same files.
        kernel.discard(files=self.kernels.get(kernel.kernel_id, kernel) is kernel)
        if self.kernels.get(kernel.kernel_id) is kernel:
            del self.kernels[kernel.kernel_id]
        self._idle_since = time.monotonic()
        self._load.changed()

    def _look_in(self, seconds: float) -> None:
        """Have a look sooner than the next one would come anyway."""
        if seconds < _TICK_SECONDS:
            asyncio.get_running_loop().call_later(seconds + 0.01, self._check_leases)

    def _tick(self) -> None:
        """End kernels whose lease ran out, keep logs within bounds, end an idle agent."""
        now = time.monotonic()
        self._sample(now)
        for kernel in list(self.kernels.values()):
            if kernel.running and kernel.process is not None:
                kernel.process.trim_log()
        self._check_leases()
        self._reap_strangers()
        idle = now - self._idle_since
        # Without its socket, which somebody has removed, no server finds us any more.
        found = os.path.exists(os.path.join(self.directory, "agent.sock"))
        if not self.peers and not self.kernels and (idle > IDLE_SECONDS or not found):
            self._over.set()
        if self.peers:
            self._load.tell_news()

    def _reap_strangers(self) -> None:
        """Reap what kernels left behind and was ours by that: see forking/templates.py.

        One that was there at the last tick as well is nobody's: asyncio reaps its own at once.
        """
        ours = {k.process.pid for k in self.kernels.values() if k.process}
        ours |= self._templates.pids | self._warm.pids
        found = zombies() - ours
        for pid in found & self._strangers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._strangers = found

    def _check_leases(self) -> None:
        now = time.monotonic()
        self._note_owners()
        for kernel in list(self.kernels.values()):
            left = self._leases.left(kernel.owner, kernel.lease, now)
            if left is not None and left <= 0:
                self._lease_over(kernel, -left)

    def _lease_over(self, kernel: HostedKernel, seconds: float) -> None:
        """Its lease is over since so many seconds: end it, politely first.

        What became of it is kept as long again as its lease, for who comes back after all.
        """
        if kernel.running and kernel.process is not None:
            if not kernel.ended_by:
                kernel.ended_by = "its lease of {:g} s ran out".format(kernel.lease)
                text = "kernel {} (pid {}, owner {}): {}, it is ended"
                process = kernel.process
                report(text.format(kernel.kernel_id, process.pid, kernel.owner, kernel.ended_by))
                process.signal(signal.SIGTERM)
                self._look_in(_TERMINATE_SECONDS)
            elif seconds >= _TERMINATE_SECONDS:
                self._end_now(kernel)
        elif seconds > kernel.lease + _TERMINATE_SECONDS:
            self._drop(kernel)

    def _take_over(self) -> None:
        """Look after the kernels of an agent that was killed; each has a lease from now on."""
        for kernel in take_over(self._kernels_directory):
            self.kernels[kernel.kernel_id] = kernel
            if kernel.running:
                kernel.watch(self._on_listening, self._on_child)
            if kernel.listening:
                self._streams.record(kernel)
        self._note_owners()

    # -- life -------------------------------------------------------------------------------

    async def serve(self, listener: socket.socket, ready: int) -> None:
        """Serve until idle. `ready` is a descriptor to write a byte to once we listen."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        loop.add_signal_handler(signal.SIGTERM, self._over.set)
        # Handled, not ignored: what is ignored here would be ignored by every kernel as well.
        for signum in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, lambda: None)
        await self._streams.listen()
        self._take_over()
        server = await loop.create_unix_server(lambda: Peer(self), sock=listener)
        os.write(ready, b"+")
        os.close(ready)
        with contextlib.suppress(asyncio.CancelledError):
            while not self._over.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._over.wait(), _TICK_SECONDS)
                self._tick()
        self._load.close()  # before a successor may be started, which has the same file
        server.close()
        self._streams.close()
        for kernel in list(self.kernels.values()):
            self._end_now(kernel)
            self._drop(kernel)
        self._warm.close()
        self._templates.close()


def _answers(path: str) -> bool:
    """Whether somebody listens on the socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
