"""The agent itself: what it consists of, and how it lives and ends.

One event loop; what may wait for a file system is done in threads (apart.py). Standard library
only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Any, Dict, Mapping, Optional, Set

from ..protocol.agent_events import Dropped, LoadChanged, Notice
from ..protocol.answers import AgentDescription
from ..protocol.conventions import AGENT_LOG, AGENT_SOCKET
from ..protocol.version import VERSION
from ..protocol.wire import Message
from . import apart
from .background import Background, report_failure
from .bootstrap.siblings import Siblings
from .files.file_server import FileServer
from .forking.templates import Templates
from .forking.warm_kernels import WarmKernels
from .kernels.hosted_kernel import HostedKernel
from .kernels.kernel_table import TICK_SECONDS, KernelTable
from .kernels.start_queue import StartQueue
from .log import report
from .machine.load import Load, cores
from .operations import Operations
from .ports.port_server import PortServer
from .processes.kernel_process import zombies
from .processes.output_file import trim
from .processes.process_identity import boot_id
from .servers.peer import Peer
from .servers.peers import Peers
from .streams.stream_server import Streams

#: Seconds without a server or a kernel after which the agent ends itself.
IDLE_SECONDS = 60.0


class Agent:
    """Keeps the kernels of one user on one host, for any number of servers of that user."""

    def __init__(self, directory: str, template: Optional[Mapping[str, Any]] = None) -> None:
        """`template`: see forking/first_template.py."""
        self.directory = directory
        self._first_template = template
        kernels_directory = os.path.join(directory, "k")
        # An agent that was killed leaves it, with kernels that still run.
        os.makedirs(kernels_directory, 0o700, exist_ok=True)
        kernels: Dict[str, HostedKernel] = {}
        self._peers = Peers()
        self._queue = StartQueue(max(2, cores()))
        self._templates = Templates()
        self._warm = WarmKernels(kernels_directory, self._templates)
        self._streams = Streams(directory, kernels, self._notice)
        self._streams.on_dropped = self._dropped
        self._ports = PortServer(directory, kernels)
        self._files = FileServer(directory)
        self._load = Load(directory, self._running, self._tell_load)
        self._table = KernelTable(
            kernels_directory,
            kernels=kernels,
            peers=self._peers,
            queue=self._queue,
            streams=self._streams,
            load=self._load,
        )
        self._siblings = Siblings(directory)
        identity = AgentDescription(
            pid=os.getpid(),
            python="{}.{}.{}".format(*sys.version_info),
            directory=directory,
            protocol=VERSION,
            host=self._siblings.host,
            boot=boot_id(),
        )
        self._operations = Operations(
            identity,
            table=self._table,
            peers=self._peers,
            queue=self._queue,
            streams=self._streams,
            ports=self._ports,
            warm=self._warm,
            load=self._load,
            siblings=self._siblings,
        )
        self._background = Background()
        self._over = asyncio.Event()
        #: Whether the server that was disconnected last had left in order.
        self._last_has_left = False
        self._table.on_drop = self._end_if_left
        self._strangers: Set[int] = set()

    # -- servers ----------------------------------------------------------------------------

    def _disconnected(self, peer: Peer) -> None:
        self._peers.remove(peer)
        self._table.note_owners()
        for kernel in list(peer.starts):  # its server will not learn that it runs
            self._table.end(kernel)
        if not peer.owner:  # it only looked whether we are there, as siblings do regularly
            return
        if peer.owner in self._peers.owners:
            return
        self._table.idle_since = time.monotonic()
        self._table.owner_left(peer.owner)
        self._last_has_left = peer.left
        self._end_if_left()

    def _end_if_left(self) -> None:
        """End when the last server has left in order, and its last kernel has ended."""
        present = any(peer.owner for peer in self._peers)
        if self._last_has_left and not present and not self._table:
            self._over.set()

    def _tell_load(self, load: Message) -> None:
        for peer in self._peers:
            if peer.owner:  # it has said hello
                peer.tell(LoadChanged(**self._operations.load_for(peer, load).fields()))

    def _notice(self, text: str) -> None:
        """Log a text for the operator, and send it to every server."""
        report(text)
        for peer in self._peers:
            if peer.owner:
                peer.tell(Notice(text=text))

    def _dropped(self, kernel: HostedKernel, messages: int) -> None:
        self._peers.tell(kernel.owner, Dropped(kernel_id=kernel.kernel_id, messages=messages))

    def _running(self) -> int:
        return sum(kernel.running for kernel in self._table)

    # -- life -------------------------------------------------------------------------------

    async def serve(self, listener: socket.socket, ready: int) -> None:
        """Serve until idle. `ready` is a descriptor to write a byte to once we listen."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._table.on_child)
        loop.add_signal_handler(signal.SIGTERM, self._over.set)
        # Handled, not ignored: kernels inherit ignored signals.
        for signum in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, lambda: None)
        await self._streams.listen()
        await self._ports.listen()
        self._files.listen()
        await self._table.take_over()
        self._take_template()
        server = await loop.create_unix_server(self._accepted, sock=listener)
        os.write(ready, b"+")
        os.close(ready)
        self._revive_siblings()
        with contextlib.suppress(asyncio.CancelledError):
            while not self._over.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._over.wait(), TICK_SECONDS)
                self._tick()
        self._load.close()  # before a successor starts: it uses the same file
        # A child that is not its program yet has the listener too. Nobody may connect to that.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        server.close()
        self._streams.close()
        self._ports.close()
        self._files.close()
        self._table.end_at_once(list(self._table))
        self._warm.close()
        self._templates.close()

    def _take_template(self) -> None:
        """Use the template that was loaded before this agent ran, if there is one."""
        try:
            if self._first_template is not None:
                self._templates.take(self._first_template)
        except OSError as error:
            report_failure("taking the first template", error)

    def _accepted(self) -> Peer:
        return Peer(self._operations.answer, self._peers.add, self._disconnected)

    def _tick(self) -> None:
        """Run the regular tasks. When one fails, the others still run."""
        chores = (
            self._table.on_child,  # in case the handler of SIGCHLD failed
            self._sample,
            self._table.trim_logs,
            self._trim_log,
            self._table.check_leases,
            self._table.save_again,
            self._streams.left.tidy,
            self._reap_strangers,
            self._revive_siblings,
            self._end_idle,
            self._tell_news,
        )
        for chore in chores:
            try:
                chore()
            except Exception as error:
                report_failure("a regular task", error)

    def _tell_news(self) -> None:
        if self._peers:
            self._load.changed()

    def _sample(self) -> None:
        self._background.run(self._table.sample(), "measuring kernels")

    def _trim_log(self) -> None:
        log = os.path.join(self.directory, AGENT_LOG)
        apart.turns.begin(self.directory, partial(trim, log))

    def _revive_siblings(self) -> None:
        self._background.run(self._siblings.revive(), "starting another agent again")

    def _end_idle(self) -> None:
        if self._table.not_taken_over or self._peers or self._table:
            return
        if time.monotonic() - self._table.idle_since > IDLE_SECONDS:
            self._over.set()
        path = os.path.join(self.directory, AGENT_SOCKET)
        apart.turns.begin(self.directory, lambda: os.path.exists(path), self._end_if_unseen)

    def _end_if_unseen(self, there: bool, error: Optional[BaseException]) -> None:
        """Somebody may have removed our socket. Then no server can find us any more."""
        if not there and error is None and not self._peers and not self._table:
            self._over.set()

    def _reap_strangers(self) -> None:
        """Reap processes that kernels left behind: they became our children (forking/templates.py).

        asyncio reaps its own processes at once. So one that was a zombie at the last tick as well
        is a stranger.
        """
        ours = self._table.pids
        ours |= self._templates.pids | self._warm.pids
        found = zombies() - ours
        for pid in found & self._strangers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._strangers = found
