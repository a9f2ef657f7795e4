"""A kernel of this server on a host: its life, its forward, its start. In the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Mapping
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo

from ..errors import (
    HostError,
    KernelLostError,
    KernelStartError,
    LaunchTimeoutError,
    RemoteProvisionerError,
)
from ..events import KernelChanged, OutputDropped, Phase, events
from ..hosts.host import Host
from ..options.launch_request import LaunchRequest
from ..placement.inventory import HostSpec
from ..protocol.answers import KernelDescription
from ..protocol.messages import (
    Adopt,
    Attach,
    Dropped,
    Exited,
    Forget,
    GetTail,
    GpuRequest,
    Listening,
    OutputBounds,
    Queued,
    ReportListening,
    Request,
    Signal,
    Start,
    Taken,
)
from .client_sockets import ClientSockets
from .launcher_reports import SECRET_VARIABLE, LauncherReports
from .lifecycle import LOST_EXIT_CODE, Lifecycle, State
from .pausable_timeout import PausableTimeout, TimeoutExceeded
from .resource_upload import ResourceArchive
from .starts import starts

log = logging.getLogger(__name__)


class RemoteKernel:
    """One kernel, through its restarts: they keep the host and the client's endpoints.

    `life`, `pid`, `cwd` and `home` may be read from any thread.
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
        #: Since when, by the clock, it is on this host.
        self.started: float | None = None
        #: How its process came to be: "forked", "warm", "spawned"; "" where that is not known.
        self.way = ""
        #: The devices that it has, and the seconds that it lives on without its server.
        self.gpus: tuple[str, ...] = ()
        self.lease: float | None = None
        self.pid: int | None = None
        #: The working directory and the home directory on the host.
        self.cwd = ""
        self.home = ""
        #: The endpoints and the key as they are on the host.
        self.connection: dict[str, Any] = {}
        #: Whether it is to go on when this process ends on purpose.
        self.stays = False
        self.grace = grace
        #: What the agent is asked for a kernel that another process started, until it is ours:
        #: Adopt or Attach. Attached ones are asked for after each reconnection.
        self._claim: Request[KernelDescription] | None = None
        self._attached = False
        self._keeping: asyncio.Task[None] | None = None
        #: The host may have heard of it, whether or not it has answered.
        self._asked = False
        self._changed = asyncio.Event()
        self._grace_timer: asyncio.TimerHandle | None = None
        self._timeout = PausableTimeout(0)

    def move(self, spec: HostSpec, host: Host) -> None:
        """Be started on another host from now on."""
        self.spec, self.host = spec, host

    @property
    def may_run(self) -> bool:
        """Whether there may be a process of it on its host."""
        return self.pid is not None or self._asked

    # -- start ------------------------------------------------------------------------------

    async def launch(self, request: LaunchRequest, response: LauncherReports) -> None:
        """Start the process and return once it listens.

        Raises HostError when the host is to blame, KernelStartError with the exit code and the
        last lines when the kernel is, LaunchTimeoutError. Nothing is left running then.
        """
        self.life = Lifecycle()
        self.client_sockets.drop_orders()
        self.host.remember(self)
        self._timeout = PausableTimeout(request.timeout)
        try:
            await self._timeout.run(self._launch(request, response))
        except TimeoutExceeded:
            raise await self._timed_out(request.timeout) from None
        except RemoteProvisionerError as error:
            raise error if error.host else error.at(self.spec.name) from None
        finally:
            response.forget(self.kernel_id)
            if self.life.state is not State.RUNNING:
                self.life.lost("did not start")
                await asyncio.shield(self.discard())

    async def _launch(self, request: LaunchRequest, response: LauncherReports) -> None:
        name = self.spec.name
        phase = Phase.LAUNCHING if self.host.connected else Phase.CONNECTING
        starts().note(self.kernel_id, phase, host=name)
        link = await self.host.link()
        starts().note(self.kernel_id, Phase.LAUNCHING, host=name)
        if self._claim is not None:  # what is there is another server's, and would be in the way
            await link.channel.request(Forget(kernel_id=self.kernel_id))
            self._claim = None
        resources = ""
        if request.resource_dir is not None:
            resources = await ResourceArchive(request.resource_dir).put(link.channel)
        substitutions = {
            "kernel_id": self.kernel_id,
            "port_range": "{}..{}".format(*request.port_range),
        }
        expected, secret = None, {}
        if request.reports_endpoints:
            expected = response.expect(self.kernel_id)
            address = "ipc://" + await self.host.expose(response.path)
            substitutions |= {"response_address": address, "public_key": response.public_key}
            secret = {SECRET_VARIABLE: expected.secret}
        self._asked = True
        self.client_sockets.prepare()  # which begins when the request is on its way
        start = Start(
            gpus=GpuRequest(count=request.requirements.gpus, devices=self.spec.gpus),
            kernel_id=self.kernel_id,
            argv=request.argv,
            substitutions=substitutions,
            env=request.env,
            request_env={**request.request_env, **secret},
            cwd=request.cwd,
            hook=self.spec.hook,
            python=self.spec.python,
            connection={"transport": request.transport, **request.session},
            port_range=request.port_range,
            lease=request.lease,
            resources=resources,
            resources_from=str(request.resource_dir or ""),
            reports_endpoints=request.reports_endpoints,
            preload=list(self.spec.preload),
            warm=request.warm,
            output=OutputBounds(memory=request.output[0], disk=request.output[1]),
        )
        started = await link.channel.request(start)
        self._timeout.resume()
        self._describe(started)
        starts().note(self.kernel_id, Phase.LAUNCHING, way=self.way)
        self.life.launched()
        if expected is not None:
            expected.connection.set_result(self.connection)
            expected.reported.add_done_callback(lambda _: self._changed.set())
        while not self.life.over and self.life.state is not State.RUNNING:
            if expected is not None and expected.reported.done():
                self.connection.update(expected.reported.result())
                self.life.listening()
                # Answered before any client's stream can ask for them.
                report = ReportListening(kernel_id=self.kernel_id, connection=self.connection)
                await link.channel.request(report)
                break
            self._changed.clear()
            await self._changed.wait()
        if self.life.over:
            raise self._ended_early()
        self.client_sockets.encrypted = "curve_publickey" in self.connection
        self.client_sockets.serve()

    def _ended_early(self) -> RemoteProvisionerError:
        host = self.spec.name
        if self.life.state is State.LOST:
            return HostError(f"lost while the kernel started: {self.life.reason}", host=host)
        printed = f"; it printed:\n{self.life.reason}" if self.life.reason else " and no output"
        return KernelStartError(
            f"the kernel ended at once with exit code {self.life.exit_code}{printed}", host=host
        )

    async def _timed_out(self, seconds: float) -> LaunchTimeoutError:
        tail = ""
        if self.life.state is State.STARTING:
            what = "the host did not start the kernel"
        else:
            what = "the kernel did not open its ports"
            with contextlib.suppress(RemoteProvisionerError, asyncio.TimeoutError):
                asked = self.host.request(GetTail(kernel_id=self.kernel_id))
                tail = (await asyncio.wait_for(asked, 1)).tail
        printed = f"; it printed:\n{tail}" if tail else "; it printed nothing"
        return LaunchTimeoutError(
            f"{what} within {seconds:g} s (launch_timeout) and was ended{printed}",
            host=self.spec.name,
        )

    def client_connection(self) -> KernelConnectionInfo:
        """What a client here needs to speak to it: endpoints of this machine, and the key."""
        info: dict[str, Any] = {
            "transport": "ipc",
            "ip": self.client_sockets.ip,
            **self.client_sockets.ports,
        }
        for name in ("signature_scheme", "curve_publickey", "curve_secretkey"):
            if name in self.connection:
                info[name] = self.connection[name]
        info["key"] = self.connection["key"].encode("ascii")
        return cast(KernelConnectionInfo, info)

    # -- to come back -----------------------------------------------------------------------

    def expect(self, connection: Mapping[str, Any], pid: int | None, owner: str) -> None:
        """Be a kernel that another process has started, as its record says; without asking.

        It counts as unreachable, within its grace, until `claim` or `settle` has found it.
        """
        self.connection, self.pid = dict(connection), pid
        self._claim = Adopt(kernel_id=self.kernel_id, owner=owner)
        self.host.remember(self)
        self.life.launched()
        self.life.listening()
        self.on_disconnected()

    def look_at(self) -> None:
        """Be a kernel that another process has started, and stays in charge of."""
        self._attached = True
        self._claim = Attach(kernel_id=self.kernel_id)
        self.host.remember(self)
        self.life.launched()
        self.on_disconnected()

    def keep_attached(self) -> None:
        """Look for it again after each reconnection, from now on."""
        self._keeping = asyncio.ensure_future(self._keep_attached())

    async def _keep_attached(self) -> None:
        with contextlib.suppress(KernelLostError):
            while not self.life.over:
                await self.settle()
                self._changed.clear()
                await self._changed.wait()

    async def claim(self) -> None:
        """Have the agent make us its owner, and serve it.

        Raises HostError, KernelLostError when it is not there, KernelTakenError. It may have
        ended meanwhile: its life tells.
        """
        if self._claim is None:
            return
        try:
            found = await self.host.request(self._claim)
        except KernelLostError as error:
            why = error.message
            self._end(lambda: self.life.lost(why))
            self._note_change()
            raise error.at(self.spec.name) from None
        if self.life.over:
            return  # the grace was over, or it was given up, while we asked
        self._claim = None
        known = self.connection
        self._describe(found)
        self.connection.update(known)  # as a launcher reported it
        self.life.listening()
        self.on_reconnected(found)

    @property
    def unclaimed(self) -> bool:
        """Whether it is another server's still, as far as its host has told."""
        return self._claim is not None

    @property
    def owner(self) -> str:
        """What names its server to the agent: us, or who left it, until it is ours."""
        former = self._claim.owner if isinstance(self._claim, Adopt) else None
        return str(former or self.host.owner)

    async def settle(self) -> None:
        """`claim`, as often as it takes; returns when it is ours or its life is over.

        Raises KernelLostError.
        """
        while self._claim is not None and not self.life.over:
            self._changed.clear()
            try:
                await self.claim()
            except HostError as error:
                log.warning("kernel %s: waits for its host: %s", self.kernel_id, error)
                await self._changed.wait()  # the host is back, or the grace is over

    def _describe(self, described: KernelDescription) -> None:
        self.pid, self.connection = described.pid, dict(described.connection)
        self.cwd, self.home = described.cwd, described.home
        self.started, self.way = described.started, described.way
        self.gpus, self.lease = tuple(described.gpus), described.lease

    # -- what the host reports --------------------------------------------------------------

    def on_event(self, event: Any) -> None:
        """An event of the agent about this kernel."""
        if isinstance(event, Queued):
            self._timeout.suspend()
            log.info("kernel %s: waits for its turn on %s", self.kernel_id, self.spec.name)
            starts().note(self.kernel_id, Phase.QUEUED, ahead=event.ahead)
        elif isinstance(event, Dropped):
            events.tell(OutputDropped(self, event.messages))
        elif isinstance(event, Listening):
            self.life.listening()
        elif isinstance(event, Exited):
            code = LOST_EXIT_CODE if event.exit_code is None else event.exit_code
            self._end(lambda: self.life.exited(code, event.reason))
        elif isinstance(event, Taken) and not self._attached:
            self._end(lambda: self.life.lost("another server has taken it over"))
        self._note_change()

    def on_disconnected(self) -> None:
        """The connection to the host is lost; the kernel goes on."""
        if self._attached:
            self._claim = Attach(kernel_id=self.kernel_id)
        self.client_sockets.disconnected()
        self.life.disconnected(time.monotonic())
        left = self.life.grace_left(time.monotonic(), self.grace)
        self._stop_grace_timer()
        if left is not None:
            loop = asyncio.get_running_loop()
            self._grace_timer = loop.call_later(left, self._grace_over)
        elif self.life.state is State.STARTING:
            self._end(lambda: self.life.lost("the connection was lost"))
        self._note_change()

    def on_reconnected(self, described: KernelDescription | None) -> None:
        """The host is back; `described` is what its agent knows of this kernel, if anything."""
        if self.life.state is State.LOST and described is not None and not self._attached:
            # Its users were told that it is dead: nobody will come back for it.
            log.warning("kernel %s on %s: lives, and is ended", self.kernel_id, self.spec.name)
            self.host.tell(Forget(kernel_id=self.kernel_id))
        if self.life.state is State.STARTING or self.life.over:
            return
        if self._claim is not None:
            pass  # `settle` asks for it
        elif described is None:
            reason = "nothing is left of it there: the host was rebooted, or its files removed"
            self._end(lambda: self.life.lost(reason))
        elif described.exit_code is not None:
            code = described.exit_code
            self._end(lambda: self.life.exited(code, described.reason))
            self.client_sockets.reachable()
        else:
            self.life.reconnected()
            if described.listening:
                self.life.listening()
            self._stop_grace_timer()
            if self.life.serving:
                self.client_sockets.serve()
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        events.tell(KernelChanged(self))

    def _grace_over(self) -> None:
        self._end(lambda: self.life.lost(f"the host was unreachable for {self.grace:g} s"))
        self._note_change()

    def _end(self, transition: Any) -> None:
        transition()
        self.client_sockets.pause()
        self._stop_grace_timer()
        if self.life.state is State.LOST:
            self.client_sockets.drop()
            log.warning(
                "kernel %s on %s: lost: %s", self.kernel_id, self.spec.name, self.life.reason
            )

    def _stop_grace_timer(self) -> None:
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None

    # -- what the server asks ---------------------------------------------------------------

    async def wait(self) -> int:
        """The exit code, when the kernel has ended."""
        while self.life.exit_code is None:
            self._changed.clear()
            await self._changed.wait()
        return self.life.exit_code

    async def signal(self, signum: int) -> None:
        """Signal the kernel's process group; one that has ended is left alone."""
        if not self.life.over:
            await self.host.request(Signal(kernel_id=self.kernel_id, signum=signum))

    async def kill(self) -> None:
        """End it with SIGKILL; give it up where the host cannot be reached."""
        try:
            await self.signal(signal.SIGKILL)
        except HostError:
            self._end(lambda: self.life.lost("given up while its host could not be reached"))
            self._note_change()
            await self.host.end(self)

    async def discard(self) -> None:
        """End it if it runs, and leave nothing of it on the host."""
        self._stop_grace_timer()
        self.client_sockets.pause()
        await self.host.end(self, ended=self.life.state is State.EXITED)
