"""The kernels of an agent: reports their events, ends them, gives up those whose lease ran out.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Set

from ...protocol.agent_events import Exited, Listening, Taken
from ...protocol.answers import NO_KERNEL, TAKEN
from .. import apart
from ..background import Background, report_failure
from ..errors import RefusedError
from ..log import report, say
from ..machine.memory import MemoryKills
from ..machine.usage import Idleness, Usage, usage_of
from ..processes.output_file import trim
from .hosted_kernel import HostedKernel
from .lease import Leases
from .takeover import Takeover

if TYPE_CHECKING:
    from ..machine.load import Load
    from ..servers.peers import Peers
    from ..streams.stream_server import Streams
    from .start_queue import StartQueue

#: How long a kernel whose lease is over may take to end by itself.
_TERMINATE_SECONDS = 10.0
_KILL_SECONDS = 0.5
#: How often the agent calls `check_leases`.
TICK_SECONDS = 20.0
#: How soon the takeover tries again what it could not read.
_AGAIN_SECONDS = 0.5
_HANGS = "the file system hangs"


class KernelTable:
    """All kernels of one agent, by id."""

    def __init__(
        self,
        directory: str,
        *,
        kernels: Dict[str, HostedKernel],
        peers: Peers,
        queue: StartQueue,
        streams: Streams,
        load: Load,
    ) -> None:
        """`directory` contains a directory for each kernel."""
        self.directory = directory
        self.kernels = kernels
        self.idle_since = time.monotonic()
        #: Called when a kernel has been forgotten.
        self.on_drop: Callable[[], None] = lambda: None
        self._peers = peers
        self._queue = queue
        self._streams = streams
        self._load = load
        self._background = Background()
        self._leases = Leases()
        self._idleness = Idleness()
        self._memory_kills = MemoryKills()
        self._takeover = Takeover(directory)
        self._looked_once = asyncio.Event()
        # Whether all kernels of the records are in the table.
        self._all_found = False
        self._unwatched: List[HostedKernel] = []
        # Kernels that were killed and have not ended yet; some of them may be forgotten already.
        self._ending: Set[HostedKernel] = set()

    def __iter__(self) -> Any:
        return iter(list(self.kernels.values()))

    def __len__(self) -> int:
        return len(self.kernels)

    def get(self, kernel_id: str) -> HostedKernel:
        """A kernel that has been started. Raises RefusedError."""
        kernel = self.kernels.get(kernel_id)
        if kernel is None or kernel.process is None:
            raise RefusedError(NO_KERNEL, "no kernel {} here".format(kernel_id))
        return kernel

    def occupying_before(self, kernel: HostedKernel) -> int:
        """How many kernels run or start that were asked for before `kernel`."""
        before = itertools.takewhile(lambda other: other is not kernel, self)
        return sum(k.running or (k.process is None and not k.given_up) for k in before)

    def of(self, owner: str) -> List[HostedKernel]:
        return [kernel for kernel in self if kernel.owner == owner]

    # -- owners -----------------------------------------------------------------------------

    def adopt(self, kernel: HostedKernel, owner: str, former: str) -> None:
        """`owner` owns the kernel from now on. Raises RefusedError.

        A kernel whose owner is connected is refused, unless the server names that owner as
        `former`: then it has the owner's record of the kernel, and the owner's connection is
        broken, which nobody has noticed yet. When two servers use the same record, the second is
        refused.
        """
        if kernel.owner != owner:
            if kernel.owner in self._peers.owners and former != kernel.owner:
                text = "kernel {} is another server's, which is connected"
                raise RefusedError(TAKEN, text.format(kernel.kernel_id))
            self._peers.tell(kernel.owner, Taken(kernel_id=kernel.kernel_id))
            self._streams.adopted(kernel)
            kernel.owner = owner
            self.note_owners()
            kernel.save()
        self._queue.leave(kernel)

    def note_owners(self) -> None:
        """Renew the leases of owners that are connected, or whose kernels have servers attached."""
        attached = self._peers.attached
        kernels = self.kernels.values()
        visited = {kernel.owner for kernel in kernels if kernel.kernel_id in attached}
        owners = {kernel.owner for kernel in kernels}
        self._leases.note(owners, self._peers.owners | visited, time.monotonic())

    def owner_left(self, owner: str) -> None:
        """The server `owner` is gone: the leases of its kernels begin to run."""
        for kernel in self.of(owner):
            self._queue.leave(kernel)  # without a server nobody gives up a kernel that hangs
            self._look_in(kernel.lease)

    def is_left(self, kernel: HostedKernel) -> bool:
        """Whether its server is not connected."""
        return kernel.owner not in self._peers.owners

    def lease_left(self, kernel: HostedKernel, now: float) -> Any:
        """Seconds left of its lease; None while its owner is connected."""
        return self._leases.left(kernel.owner, kernel.lease, now)

    def check_leases(self) -> None:
        now = time.monotonic()
        self._memory_kills.note()
        self.note_owners()
        for kernel in self:
            left = self.lease_left(kernel, now)
            if left is not None and left <= 0:
                self._lease_over(kernel, -left, "its lease of {:g} s ran out".format(kernel.lease))
            elif left is not None and kernel.left_idle > 0 and kernel.running:
                if kernel.ended_by:  # it was told to end
                    self.end(kernel)
                elif self._idle_and_left(kernel, now) >= kernel.left_idle:
                    text = "it was idle for {:g} s without its server (left_idle_timeout)"
                    self._lease_over(kernel, 0.0, text.format(kernel.left_idle))

    def _idle_and_left(self, kernel: HostedKernel, now: float) -> float:
        """For how many seconds it has idled while its server was away."""
        left = self.lease_left(kernel, now)
        if left is None or kernel.process is None:
            return 0.0
        idle: float = self.idle(kernel.process.pid) or 0.0
        return min(float(kernel.lease - left), idle)

    def _look_in(self, seconds: float) -> None:
        """Check the leases in `seconds`, if the next tick comes later than that."""
        if seconds < TICK_SECONDS:
            asyncio.get_running_loop().call_later(seconds + 0.01, self.check_leases)

    def _lease_over(self, kernel: HostedKernel, seconds: float, why: str) -> None:
        """Its time has been over for `seconds`: end it, politely first.

        How it ended is kept for as long as its lease was, in case its server comes back.
        """
        if kernel.running and kernel.process is not None:
            if not kernel.ended_by:
                kernel.ended_by = why
                text = "kernel {} (pid {}, owner {}): {}; ending it"
                process = kernel.process
                report(text.format(kernel.kernel_id, process.pid, kernel.owner, kernel.ended_by))
                process.signal(signal.SIGTERM)
                self._look_in(_TERMINATE_SECONDS)
            elif seconds >= _TERMINATE_SECONDS:
                self.end(kernel)
        elif seconds > kernel.lease + _TERMINATE_SECONDS:
            self.drop(kernel)

    # -- what happens to them ---------------------------------------------------------------

    def on_listening(self, kernel: HostedKernel) -> None:
        self._queue.leave(kernel)
        self._streams.record(kernel)
        self._peers.tell(kernel.owner, Listening(kernel_id=kernel.kernel_id))

    def on_child(self) -> None:
        """A process has ended."""
        for kernel in self:
            if kernel.running and not kernel.starting and kernel.ended():
                self._queue.leave(kernel)
                self._note_memory(kernel)
                self._background.run(self._tell_end(kernel), "telling that a kernel has ended")
                self._load.changed()
        for kernel in list(self._ending):  # some are forgotten already
            if kernel.process is None or kernel.process.reap() is not None:
                self._ending.discard(kernel)
                kernel.free_gpus()

    async def _tell_end(self, kernel: HostedKernel) -> None:
        """Tell its server, once the next agent would know it too."""
        await kernel.read_last_words()
        if self.kernels.get(kernel.kernel_id) is kernel and not kernel.given_up:
            self._peers.tell(kernel.owner, Exited(**kernel.describe().fields()))

    async def read_last_words(self) -> None:
        """Read the last output of kernels that have just ended, all at once: each file may hang.

        Returns when the last output of every ended kernel is known.
        """
        while True:
            ended = [kernel for kernel in self if kernel.last_words_missing]
            if not ended:
                return
            await asyncio.gather(*(kernel.read_last_words() for kernel in ended))

    def _note_memory(self, kernel: HostedKernel) -> None:
        """Note when the system killed it because memory ran out."""
        killed = kernel.process is not None and kernel.process.returncode == -signal.SIGKILL
        if killed and not (kernel.ended_by or kernel.given_up or kernel.told_to_end):
            kernel.ended_by = self._memory_kills.why()
            if kernel.ended_by:
                kernel.save()
                report("kernel {} was killed: {}".format(kernel.kernel_id, kernel.ended_by))

    @property
    def pids(self) -> Set[int]:
        """The processes that this table reaps."""
        return {k.process.pid for k in (*self, *self._ending) if k.process}

    def end(self, kernel: HostedKernel) -> None:
        """Kill its process, or cancel its start. Callers that need the end call `until_ended`.

        A process that is stuck in a system call (dead NFS) ends when that call returns.
        """
        kernel.given_up = True
        self._queue.leave(kernel)
        with contextlib.suppress(PermissionError):  # it has become another user, as by sudo
            if kernel.process is not None and kernel.process.signal(signal.SIGKILL):
                self._ending.add(kernel)

    async def until_ended(self, *kernels: HostedKernel) -> None:
        """Wait until killed processes have ended, at most _KILL_SECONDS: one may be stuck."""
        deadline = time.monotonic() + _KILL_SECONDS
        while any(kernel.running and not kernel.ended() for kernel in kernels):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.001)
        self._ending.difference_update(kernels)

    def end_at_once(self, kernels: List[HostedKernel]) -> None:
        """The agent ends: kill `kernels`, wait for them without serving, and forget them."""
        for kernel in kernels:
            self.end(kernel)
        deadline = time.monotonic() + _KILL_SECONDS
        while any(kernel.running and not kernel.ended() for kernel in kernels):
            if time.monotonic() > deadline:
                break
            time.sleep(0.0005)
        for kernel in kernels:
            self.drop(kernel)

    def drop(self, kernel: HostedKernel) -> None:
        """Forget a kernel and remove its files."""
        self._streams.drop(kernel)
        # A later start of the same kernel uses the same files.
        kernel.discard(files=self.kernels.get(kernel.kernel_id, kernel) is kernel)
        if self.kernels.get(kernel.kernel_id) is kernel:
            del self.kernels[kernel.kernel_id]
        self.idle_since = time.monotonic()
        self._load.changed()
        self.on_drop()

    async def forget(self, *kernels: HostedKernel) -> None:
        """End kernels that nobody wants any more, and forget them."""
        for kernel in kernels:
            self.end(kernel)
        await self.until_ended(*kernels)
        for kernel in kernels:
            self.drop(kernel)
        for kernel in kernels:
            await kernel.files_done()

    async def take_over(self) -> None:
        """Look after the kernels of an agent that was killed; each has a lease from now on.

        Returns when their records are read, or after some seconds if the file system hangs. What
        cannot be read is tried again in a moment; until then no server is greeted.
        """
        self._look_for_left()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._looked_once.wait(), apart.SECONDS)

    def _look_for_left(self) -> None:
        apart.turns.begin(self.directory, self._takeover.look, self._looked)

    def _looked(self, found: List[HostedKernel], error: Optional[BaseException]) -> None:
        if error is not None:
            report_failure("taking kernels over", error)
            self._takeover.error = str(error)
        for kernel in found or ():
            self.kernels[kernel.kernel_id] = kernel
            kernel.keep_gpus(self._load.gpus)
            self._unwatched.append(kernel)
        self.note_owners()
        try:
            while self._unwatched:
                self._watch(self._unwatched[-1])
                self._unwatched.pop()
        except OSError as refused:
            report("a kernel is not watched yet: {}".format(refused))
        self._all_found = self._takeover.over
        self._looked_once.set()
        if self._unwatched or not self._all_found:
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._look_for_left)
        else:
            self._load.gpus.settle()

    def _watch(self, kernel: HostedKernel) -> None:
        """Look after one that is taken over. Raises OSError."""
        if kernel.running:
            kernel.watch(self.on_listening, self.on_child)
        if kernel.listening:
            self._streams.record(kernel)

    @property
    def not_taken_over(self) -> str:
        """Why kernels are still to be taken over; "" when all are."""
        return "" if self._all_found else self._takeover.error or _HANGS

    def save_again(self) -> None:
        """Write the records that could not be written before."""
        for kernel in self:
            if kernel.process is not None and not kernel.saved:
                kernel.save()

    # -- what they use ----------------------------------------------------------------------

    async def sample(self) -> Dict[int, Usage]:
        """The usage of the running kernels. Also updates how long each has been idle."""
        groups = {k.process.pid for k in self.kernels.values() if k.process and k.running}
        try:
            usage = await apart.turns.run("/proc", lambda: usage_of(groups))
        except OSError as error:  # a process that is stuck can hold up who looks at it
            say("cannot measure what kernels use: {}".format(error))
            return {}
        self._idleness.update(usage, time.monotonic())
        return usage

    def idle(self, pid: int) -> Any:
        """For how many seconds the kernel of process `pid` had been idle at the last `sample`; None
        if unknown.
        """
        return self._idleness.seconds(pid)

    def trim_logs(self) -> None:
        """Keep the kernels' output files within their limit."""
        for kernel in self:
            if kernel.running and kernel.process is not None:
                apart.turns.begin(kernel.directory, partial(trim, kernel.process.log_path))
