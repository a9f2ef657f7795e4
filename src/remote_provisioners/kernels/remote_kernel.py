"""A kernel of this server on a host: its life, its sockets, its start. In the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import KernelConnectionInfo

from ..errors import HostError, KernelLostError, RemoteProvisionerError
from ..events import KernelChanged, OutputDropped, Phase, events
from ..hosts.host import Host
from ..hosts.machine import Machine
from ..options.launch_request import LaunchRequest
from ..placement.inventory import HostSpec
from ..protocol.agent_events import Dropped, Exited, Listening, Taken
from ..protocol.agent_requests import Adopt, Attach, Signal
from ..protocol.answers import KernelDescription
from .client_sockets import ClientSockets
from .failure import ended_early, log_end, too_late
from .lifecycle import LOST_EXIT_CODE, Lifecycle, State
from .start.host_start import HostStart
from .start.launcher_reports import LauncherReports
from .start.pausable_timeout import TimeoutExceeded
from .start.starts import starts

log = logging.getLogger(__name__)

#: A kernel usually ends within this time after a shutdown message, or when it is killed.
_PROMPT_END_SECONDS = 0.5


class RemoteKernel:
    """One kernel through all its restarts, which keep the host and the clients' endpoints.

    Any thread may read `life`, `pid`, `cwd` and `home`.
    """

    def __init__(
        self,
        kernel_id: str,
        spec: HostSpec,
        host: Host,
        client_sockets: ClientSockets,
        grace: float,
    ) -> None:
        self.kernel_id = kernel_id
        self.spec = spec
        self.host = host
        self.client_sockets = client_sockets
        self.life = Lifecycle()
        #: When it started on this host, by the clock.
        self.started: float | None = None
        #: How its process was created: "forked", "warm", "spawned"; "" if unknown.
        self.way = ""
        #: Its devices, and the seconds that it lives without its server.
        self.gpus: tuple[str, ...] = ()
        self.lease: float | None = None
        self.pid: int | None = None
        #: The working directory and the home directory on the host.
        self.cwd = ""
        self.home = ""
        #: The endpoints and the key on the host.
        self.connection: dict[str, Any] = {}
        #: Whether it keeps running when this process ends normally.
        self.stays = False
        self.grace = grace
        #: Where it runs; unknown once it is over.
        self.machine = Machine()
        #: Whether the host may have received the start request.
        self._asked = False
        self._changed = asyncio.Event()
        #: Whether a connected host that says nothing is waited for: no other can be tried.
        self.patient = True
        self._grace_timer: asyncio.TimerHandle | None = None
        self._start: HostStart | None = None

    def move(self, spec: HostSpec, host: Host) -> None:
        """Use another host for the next start."""
        self.spec, self.host = spec, host
        self.pid, self._asked = None, False

    def wait_for_place(self) -> None:
        """Begin the next life before its host is known."""
        self.life = Lifecycle()
        self._note_change()

    def give_up(self, reason: str) -> None:
        """Declare it lost: it gets no place, or its host cannot report its state."""
        self._end(lambda: self.life.lost(reason))
        self._note_change()

    def stay(self, stays: bool) -> None:
        """Set whether it keeps running when this process ends normally."""
        self.stays = stays

    @property
    def may_run(self) -> bool:
        """Whether it may have a process on its host."""
        return self.pid is not None or self._asked

    # -- start ------------------------------------------------------------------------------

    async def launch(self, request: LaunchRequest, reports: LauncherReports) -> None:
        """Start the process. Returns when it listens.

        Raises HostError if the host is to blame, KernelStartError with the exit code and the last
        lines if the kernel is, or LaunchTimeoutError. Then nothing is left running.
        """
        self.life, self._asked = self.life.restarted(), False
        self.client_sockets.drop_orders()
        self.host.remember(self)
        restarts = self.pid is not None
        start = self._start = HostStart(
            request, self.spec, self.host, reports, restarts=restarts, patient=self.patient
        )
        succeeded = False
        try:
            await start.within_limit(self._launch(start))
            succeeded = True
        except TimeoutExceeded:
            spec, asked = self.spec, self.life.state is not State.STARTING
            tail = await self.host.last_lines(self.kernel_id) if asked else ""
            raise too_late(self.life, request.timeout, tail, spec.name, spec.hook) from None
        except RemoteProvisionerError as error:
            raise error if error.host else error.at(self.spec.name) from None
        finally:
            start.close()
            if not succeeded:
                self.life.lost("did not start")
                await asyncio.shield(self.discard())

    async def _launch(self, start: HostStart) -> None:
        await start.connect()
        if self.life.adoption_pending:
            await start.remove_earlier()
            self.life.replaced()
        message = await start.prepare()
        self._asked = True
        self.client_sockets.prepare()  # starts once the request is sent
        described = await start.send(message)
        self.host.started(self)
        self._describe(described)
        starts().note(self.kernel_id, Phase.LAUNCHING, way=self.way)
        self.life.launched()
        start.tell_launcher(self.connection, self._changed.set)
        while not self.life.over and self.life.state is not State.RUNNING:
            reported = start.reported
            if reported is not None:
                self.connection.update(reported)
                self.life.listening()
                await start.pass_report(self.connection)
                break
            self._changed.clear()
            await self._changed.wait()
        if self.life.over:
            raise ended_early(self.life, self.spec.name)
        self.client_sockets.encrypted = "curve_publickey" in self.connection
        self.client_sockets.serve(begins=not start.restarts)

    def client_connection(self) -> KernelConnectionInfo:
        """The connection info for a client here: endpoints on this machine, and the key."""
        return self.client_sockets.connection(self.connection)

    # -- kernels that another process started -------------------------------------------------

    def prepare_adoption(self, info: Mapping[str, Any]) -> None:
        """Represent a kernel that another process left, as its record says. Asks nobody yet.

        It counts as unreachable, within its grace, until `adopt` or `adopt_when_reachable` has
        found it.
        """
        self.connection = dict(info["host_connection"])
        self.pid = info.get("pid")
        self.machine = Machine(info.get("machine", ""), info.get("boot", ""))
        self._begin_unadopted(Lifecycle.left(info.get("owner", ""), time.monotonic()))

    def prepare_attachment(self) -> None:
        """Represent a kernel that another process owns and keeps. Asks nobody yet."""
        self._begin_unadopted(Lifecycle.of_another(time.monotonic()))

    def _begin_unadopted(self, life: Lifecycle) -> None:
        self.life = life
        self.host.remember(self)
        self.client_sockets.disconnected()
        self._start_grace_timer()
        self._note_change()

    async def adopt(self) -> None:
        """Ask the agent to make us its owner or to let us attach, then serve its clients.

        Raises HostError, KernelTakenError, or KernelLostError if it does not exist. It may have
        ended in the meantime; `life` shows this.
        """
        if not self.life.adoption_pending:
            return
        try:
            found = await self._ask_for_it()
        except KernelLostError as error:
            self.give_up(self.machine.why_gone(self.host.machine, error.message))
            raise error.at(self.spec.name) from None
        if self.life.over:
            return  # the grace ended or it was declared lost while we asked
        known = self.connection
        self._describe(found)
        self.connection.update(known)  # a launcher may have reported it
        self.life.adopted()
        self._resume(found)
        self._note_change()

    async def _ask_for_it(self) -> KernelDescription:
        if self.life.attached:
            return await self.host.request(Attach(kernel_id=self.kernel_id))
        owner = self.life.former_owner
        return await self.host.request(Adopt(kernel_id=self.kernel_id, owner=owner))

    async def adopt_when_reachable(self) -> None:
        """Repeat `adopt` until the kernel is adopted or its life is over.

        Raises KernelLostError.
        """
        while self.life.adoption_pending and not self.life.over:
            self._changed.clear()
            if self.life.state is State.UNADOPTED:  # otherwise a restart is in progress
                try:
                    await self.adopt()
                    continue
                except HostError as error:
                    log.warning("kernel %s: waits for its host: %s", self.kernel_id, error)
            await self._changed.wait()  # the host is back, or the grace is over

    async def stay_attached(self) -> None:
        """Attach again after each reconnection, until its life is over."""
        with contextlib.suppress(KernelLostError):
            while not self.life.over:
                await self.adopt_when_reachable()
                self._changed.clear()
                await self._changed.wait()

    @property
    def owner(self) -> str:
        """The owner known to the agent: the former owner until we have adopted it, then us."""
        former = self.life.former_owner if self.life.adoption_pending else ""
        return former or self.host.owner

    def _describe(self, described: KernelDescription) -> None:
        self.pid, self.machine = described.pid, self.host.machine
        self.connection = dict(described.connection)
        self.cwd, self.home = described.cwd, described.home
        self.started, self.way = described.started, described.way
        self.gpus, self.lease = tuple(described.gpus), described.lease

    # -- what the host reports --------------------------------------------------------------

    def on_event(self, event: Any) -> None:
        """The agent reports an event of this kernel."""
        if self._start is not None:
            self._start.on_event(event)
        if isinstance(event, Dropped):
            events.tell(OutputDropped(self, event.messages))
        elif isinstance(event, Listening):
            self.life.listening()
        elif isinstance(event, Exited):
            code = LOST_EXIT_CODE if event.exit_code is None else event.exit_code
            self._end(lambda: self.life.exited(code, event.reason))
            log_end(self.kernel_id, self.spec.name, event)
        elif isinstance(event, Taken) and not self.life.attached:
            self._end(lambda: self.life.lost("another server has taken it over"))
        self._note_change()

    def on_disconnected(self) -> None:
        """The connection to the host is lost. The kernel keeps running."""
        self.client_sockets.disconnected()
        self.life.disconnected(time.monotonic())
        self._start_grace_timer()
        if self.life.state is State.STARTING and self._asked:
            self._end(lambda: self.life.lost("the connection was lost"))
        self._note_change()

    def on_reconnected(self, described: KernelDescription | None, agent: int = 0) -> None:
        """The host is back. `described` is the description by the agent with this pid, if any."""
        self.client_sockets.served_by(agent)
        if self.life.state is State.LOST and described is not None and not self.life.attached:
            # Its users were told that it is dead, so nobody will return to it.
            text = "kernel %s on %s: counts as lost, but still runs; ending it"
            log.warning(text, self.kernel_id, self.spec.name)
            self.host.kill(self.kernel_id)
        if self.life.state is State.STARTING or self.life.over:
            return
        if self.life.state is State.UNADOPTED:
            pass  # `adopt_when_reachable` asks for it
        elif described is None:
            self._end(lambda: self.life.lost(self.machine.why_gone(self.host.machine)))
        else:
            self._resume(described)
        self._note_change()

    def _resume(self, described: KernelDescription) -> None:
        """Serve clients again, or report the end that the agent describes."""
        if (code := described.exit_code) is not None:
            self._end(lambda: self.life.exited(code, described.reason))
            self.client_sockets.reachable()
            return
        self.life.reconnected()
        if described.listening:
            self.life.listening()
        self._stop_grace_timer()
        if self.life.serving:
            self.client_sockets.serve()

    def _note_change(self) -> None:
        self._changed.set()
        events.tell(KernelChanged(self))

    def _grace_over(self) -> None:
        self.give_up(f"the host was unreachable for {self.grace:g} s")

    def _end(self, transition: Any) -> None:
        transition()
        self.machine = Machine()
        self.client_sockets.pause()
        self._stop_grace_timer()
        if self.life.state is State.LOST:
            self.client_sockets.drop()
            why = self.life.reason
            log.warning("kernel %s on %s: lost: %s", self.kernel_id, self.spec.name, why)

    def _start_grace_timer(self) -> None:
        self._stop_grace_timer()
        left = self.life.grace_left(time.monotonic(), self.grace)
        if left is not None:
            self._grace_timer = asyncio.get_running_loop().call_later(left, self._grace_over)

    def _stop_grace_timer(self) -> None:
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None

    # -- what the server asks ---------------------------------------------------------------

    async def wait(self) -> int:
        """Wait for the kernel's end and return its exit code."""
        while self.life.exit_code is None:
            self._changed.clear()
            await self._changed.wait()
        return self.life.exit_code

    async def wait_a_moment(self) -> None:
        """Wait for the kernel's end, which usually comes soon. Managers then need not look again:
        they do only every 100 ms.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.wait(), _PROMPT_END_SECONDS)

    async def signal(self, signum: int) -> None:
        """Signal the kernel's process group, unless it has ended."""
        if not self.life.over:
            await self.host.request(Signal(kernel_id=self.kernel_id, signum=signum))

    async def kill(self) -> None:
        """End it with SIGKILL. If the host cannot be reached, declare it lost."""
        try:
            await self.signal(signal.SIGKILL)
            await self.wait_a_moment()
        except HostError:
            self.give_up("it was killed while its host could not be reached")
            await self.host.end(self)

    async def discard(self) -> None:
        """End it if it runs, and remove everything of it on the host."""
        self._stop_grace_timer()
        self.client_sockets.pause()
        await self.host.end(self, ended=self.life.state is State.EXITED)
