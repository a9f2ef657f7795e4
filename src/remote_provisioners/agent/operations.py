"""What servers ask an agent to do: a method for each request of protocol/agent_requests.py.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from ..protocol import agent_events as events
from ..protocol import agent_requests as requests
from ..protocol.answers import (
    BAD_REQUEST,
    CANCELLED,
    CANNOT_START,
    INTERNAL,
    NO_ROOM,
    VERSION_REFUSED,
    Activation,
    AgentDescription,
    AgentStatus,
    Delivered,
    Examined,
    FoundEnvironments,
    HostReport,
    KernelDescription,
    KernelspecFiles,
    KernelStatus,
    LoadReport,
    Nothing,
    Output,
    Present,
    Resolved,
    Tail,
    Welcome,
)
from ..protocol.ports import PortsFound
from ..protocol.structure import Structure
from ..protocol.version import VersionError, agree
from . import apart
from .errors import RefusedError
from .kernels import resource_store as resources
from .kernels.environment_hook import Environments
from .kernels.hosted_kernel import HostedKernel
from .processes import descriptors, out_of_memory
from .processes.output_file import read_on
from .servers.peer import Peer

if TYPE_CHECKING:
    from .bootstrap.siblings import Siblings
    from .forking.warm_kernels import WarmKernels
    from .kernels.kernel_table import KernelTable
    from .kernels.start_queue import StartQueue
    from .machine.load import Load
    from .ports.port_server import PortServer
    from .servers.peers import Peers
    from .streams.stream_server import Streams


class Operations:
    """Each ``op_*`` method takes the peer and the request and returns the answer.

    It raises RefusedError when it refuses; the server gets the error's code and text.
    """

    def __init__(
        self,
        identity: AgentDescription,
        *,
        table: KernelTable,
        peers: Peers,
        queue: StartQueue,
        streams: Streams,
        ports: PortServer,
        warm: WarmKernels,
        load: Load,
        siblings: Siblings,
    ) -> None:
        self._identity = identity
        self._table = table
        self._peers = peers
        self._queue = queue
        self._streams = streams
        self._ports = ports
        self._warm = warm
        self._load = load
        self._siblings = siblings
        self._directory = identity.directory
        self._resources_directory = os.path.join(self._directory, "resources")
        self._environments = Environments(self._directory)
        self._descriptor_limit = descriptors.raise_limit()
        self._memory_value = out_of_memory.spare_agent()
        self._since = time.time()

    async def answer(self, peer: Peer, request: requests.Request[Structure]) -> Structure:
        """Do what `request` asks. Raises RefusedError."""
        operation = getattr(self, "op_" + request.op)
        answer: Structure = await operation(peer, request)
        return answer

    async def op_hello(self, peer: Peer, request: requests.Hello) -> Welcome:
        try:
            peer.version = agree(request.protocol, "this server")
        except VersionError as error:
            raise RefusedError(VERSION_REFUSED, str(error)) from None
        if self._table.not_taken_over:
            text = "it cannot read its records of kernels yet: {}"
            raise RefusedError(INTERNAL, text.format(self._table.not_taken_over))
        load = await self._load.snapshot()
        await self._table.read_last_words()  # from here on, no await
        if not peer.connected:
            raise RefusedError(CANCELLED, "the server is gone")
        self._peers.greet(peer, request.owner)
        self._table.note_owners()
        return Welcome(
            **self._identity.fields(),
            hostname=socket.gethostname(),
            home=os.path.expanduser("~"),
            kernels=[kernel.describe() for kernel in self._table.of(peer.owner)],
            load=self.load_for(peer, load),
            left=[k.kernel_id for k in self._table if k.running and self._table.is_left(k)],
        )

    # -- kernels ----------------------------------------------------------------------------

    async def op_start(self, peer: Peer, request: requests.Start) -> KernelDescription:
        kernel_id = request.kernel_id
        peer.tell(events.Accepted(kernel_id=kernel_id))
        earlier = self._table.kernels.get(kernel_id)
        if earlier is not None and earlier.owner != peer.owner:
            raise RefusedError(BAD_REQUEST, "kernel {} is another server's".format(kernel_id))
        kernel = HostedKernel(kernel_id, peer.owner, self._table.directory)
        kernel.output, kernel.resources = request.output, request.resources
        kernel.lease = float(request.lease)
        kernel.left_idle = float(request.left_idle)
        if earlier is not None:  # its server restarts it, and has given up the earlier process
            self._table.end(earlier)
            self._streams.restarted(earlier, kernel)
            kernel.take_over(earlier)
            earlier.discard(files=False)
        self._table.kernels[kernel_id] = kernel
        peer.starts.add(kernel)
        try:
            if earlier is not None:
                await self._table.until_ended(earlier)
            elif request.capacity is not None:
                await self._refuse_if_full(kernel, request.capacity)
            # Take GPUs before it waits in the queue: without them the server tries another host.
            await kernel.take_gpus(request.gpus, self._load.gpus)
            await self._turn(peer, kernel)
            await kernel.start(
                request,
                self._environments.after,
                self._warm,
                resources.path(self._resources_directory, request.resources),
                self._listens,
            )
        except BaseException:
            self._table.end(kernel)
            self._table.drop(kernel)
            raise
        finally:
            peer.starts.discard(kernel)
        if kernel.process is not None:
            descriptors.restore_limit(kernel.process.pid, self._descriptor_limit)
            out_of_memory.expose(kernel.process.pid, self._memory_value)
        self._load.changed()
        kernel.starting = False
        asyncio.get_running_loop().call_soon(self._table.on_child)  # it may have ended already
        return kernel.describe()

    async def _refuse_if_full(self, kernel: HostedKernel, capacity: int) -> None:
        """Refuse one kernel more than the host may have. Servers that start at the same moment do
        not know of each other. Raises RefusedError.
        """
        others = await self._load.of_others()
        kernels = self._table.occupying_before(kernel) + others
        if kernels >= capacity:
            text = "{} of {} kernels".format(kernels, capacity)
            raise RefusedError(NO_ROOM, text)

    async def _turn(self, peer: Peer, kernel: HostedKernel) -> None:
        """Wait until `kernel` may start. Raises RefusedError when it is given up meanwhile."""

        def wait() -> None:
            ahead = self._queue.waiting - 1
            peer.tell(events.Queued(kernel_id=kernel.kernel_id, ahead=ahead))

        wanted = peer.connected and not kernel.given_up
        if not wanted or not await self._queue.enter(peer.owner, kernel, wait):
            raise RefusedError(CANCELLED, "the start was cancelled")

    def _listens(self, kernel: HostedKernel) -> None:
        self._table.on_listening(kernel)
        self._ports.note(kernel)

    async def op_listening(self, peer: Peer, request: requests.ReportListening) -> Nothing:
        kernel = self._table.kernels.get(request.kernel_id)
        if kernel is not None and kernel.running:
            kernel.listening = True
            kernel.connection.update(request.connection)
            kernel.save()
            self._queue.leave(kernel)
            self._streams.record(kernel)
        return Nothing()

    async def op_signal(self, peer: Peer, request: requests.Signal) -> Delivered:
        kernel = self._table.kernels.get(request.kernel_id)
        process = kernel.process if kernel else None
        if kernel is not None and request.signum == signal.SIGKILL:
            kernel.told_to_end = True
        return Delivered(delivered=process is not None and process.signal(request.signum))

    async def op_forget(self, peer: Peer, request: requests.Forget) -> Nothing:
        kernel = self._table.kernels.get(request.kernel_id)
        if kernel is not None:
            await self._table.forget(kernel)
        return Nothing()

    async def op_tail(self, peer: Peer, request: requests.GetTail) -> Tail:
        kernel = self._table.kernels.get(request.kernel_id)
        process = kernel.process if kernel is not None else None
        return Tail(tail=await apart.run("its output", process.tail) if process else "")

    async def op_announce(self, peer: Peer, request: requests.Announce) -> Nothing:
        self._streams.announce(self._table.get(request.kernel_id), request.text, request.now)
        return Nothing()

    async def op_resolve_path(self, peer: Peer, request: requests.ResolvePath) -> Resolved:
        kernel, path = self._table.get(request.kernel_id), request.path
        try:
            return Resolved(path=await apart.run(path, lambda: kernel.resolve(path)))
        except OSError as error:
            raise RefusedError(INTERNAL, str(error)) from None

    async def op_ports(self, peer: Peer, request: requests.GetPorts) -> PortsFound:
        return PortsFound(kernels=await self._ports.ports(request.kernel_ids))

    async def op_output(self, peer: Peer, request: requests.GetOutput) -> Output:
        kernel = self._table.get(request.kernel_id)
        process = kernel.process
        if process is None:
            return Output(end=request.after)
        ended = process.returncode is not None
        read = partial(read_on, process.log_path, request.after, ended)
        # In turn with trimming, which moves the text in the file.
        text, end = await apart.turns.run(kernel.directory, read)
        return Output(output=text, end=end, ended=ended)

    async def op_adopt(self, peer: Peer, request: requests.Adopt) -> KernelDescription:
        kernel = self._table.get(request.kernel_id)
        self._table.adopt(kernel, peer.owner, request.owner)
        await kernel.files_done()
        await self._table.read_last_words()
        return kernel.describe()

    async def op_attach(self, peer: Peer, request: requests.Attach) -> KernelDescription:
        kernel = self._table.get(request.kernel_id)
        peer.attached.add(kernel.kernel_id)
        self._table.note_owners()
        await self._table.read_last_words()
        return kernel.describe()

    # -- what kernels need ------------------------------------------------------------------

    async def op_has_resources(self, peer: Peer, request: requests.HasResources) -> Present:
        directory, digest = self._resources_directory, request.digest
        found = await apart.run(directory, lambda: resources.present(directory, digest))
        return Present(present=found)

    async def op_put_resources(self, peer: Peer, request: requests.PutResources) -> Nothing:
        directory, digest, archive = self._resources_directory, request.digest, request.archive
        try:
            await apart.run(
                directory, lambda: resources.unpack(directory, digest, archive), seconds=60.0
            )
            used = {kernel.resources for kernel in self._table}
            await apart.run(directory, lambda: resources.tidy(directory, used))
        except (OSError, ValueError) as error:
            raise RefusedError(CANNOT_START, "kernelspec files: {}".format(error)) from None
        return Nothing()

    async def op_examine(self, peer: Peer, request: requests.Examine) -> Examined:
        from .environments.examine import examine  # noqa: PLC0415 (an agent starts without)

        environ = dict(await self._environments.after(request.hook))
        return Examined.read(await examine(request.python, request.package, environ))

    # -- what could run kernels -------------------------------------------------------------

    async def op_find_environments(
        self, peer: Peer, request: requests.FindEnvironments
    ) -> FoundEnvironments:
        from .environments.probe import find_environments  # noqa: PLC0415 (an agent starts without)

        return await find_environments(
            await self._environments.after(request.hook), request.directories
        )

    async def op_activate(self, peer: Peer, request: requests.Activate) -> Activation:
        from .environments.activation import activate  # noqa: PLC0415

        base = await self._environments.after(request.hook)
        return await activate(request.kind, request.path, request.program, base, self._directory)

    async def op_kernelspec_files(
        self, peer: Peer, request: requests.GetKernelspecFiles
    ) -> KernelspecFiles:
        from .environments.kernelspecs import read_files  # noqa: PLC0415

        try:
            return await apart.run(request.path, lambda: read_files(request.path))
        except OSError as error:
            return KernelspecFiles(error="cannot read {}: {}".format(request.path, error.strerror))

    # -- the host ---------------------------------------------------------------------------

    def load_for(self, peer: Peer, load: object) -> LoadReport:
        """A report on the load, from which a server can tell how much of it is its own."""
        report = LoadReport.read(load)
        report.yours = sum(kernel.running for kernel in self._table.of(peer.owner))
        return report

    async def op_load(self, peer: Peer, request: requests.GetLoad) -> LoadReport:
        return self.load_for(peer, await self._load.snapshot())

    async def op_status(self, peer: Peer, request: requests.GetStatus) -> HostReport:
        await self._siblings.revive()  # otherwise nobody would list their kernels
        now = time.monotonic()
        connected = self._peers.owners
        self._table.note_owners()
        usage, load = await self._table.sample(), await self._load.snapshot()
        others = await self._siblings.answering()
        await self._table.read_last_words()

        def of(kernel: HostedKernel) -> KernelStatus:
            pid = kernel.process.pid if kernel.process and kernel.running else 0
            used = usage.get(pid)
            status = KernelStatus(**kernel.describe().fields())
            status.connection = {}  # it contains the key
            status.owner, status.owned = kernel.owner, kernel.owner in connected
            status.memory = used.memory if used else None
            status.idle = self._table.idle(pid)
            status.lease_left = self._table.lease_left(kernel, now)
            return status

        return HostReport(
            agent=AgentStatus(**self._identity.fields(), since=self._since, others=others),
            load=LoadReport.read(load),
            kernels=[of(kernel) for kernel in self._table],
        )

    async def op_leave(self, peer: Peer, request: requests.Leave) -> Nothing:
        peer.left = True  # now: it may be disconnected before its kernels have ended
        kernels = self._table.of(peer.owner)
        await self._table.forget(*(k for k in kernels if k.kernel_id not in request.keep))
        return Nothing()
