"""One start of a kernel's process on a host: the conversation with its agent and its launcher."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ...events import Phase
from ...hosts.agent_channel import AgentChannel
from ...hosts.host import Host
from ...hosts.host_connection import HostConnection
from ...options.launch_request import LaunchRequest
from ...placement.inventory import HostSpec
from ...protocol.agent_events import Accepted, Queued
from ...protocol.agent_requests import Forget, GetLoad, ReportListening, Start
from ...protocol.answers import KernelDescription
from ...protocol.version import ACCEPTS
from .launcher_reports import SECRET_VARIABLE, ExpectedLaunch, LauncherReports
from .pausable_timeout import PausableTimeout
from .resource_upload import put_resources
from .start_message import start_message
from .starts import starts

log = logging.getLogger(__name__)


class HostStart:
    """A start on one host, until the kernel listens. In the I/O thread.

    `restarts`: the kernel has a place on this host. `patient`: the start waits for a connected host
    that says nothing, because no other one can be tried.
    """

    def __init__(
        self,
        request: LaunchRequest,
        spec: HostSpec,
        host: Host,
        reports: LauncherReports,
        *,
        restarts: bool,
        patient: bool,
    ) -> None:
        self._request = request
        self._spec = spec
        self._host = host
        self._reports = reports
        self.restarts = restarts
        self._patient = patient
        # The trial of unix sockets has time of its own, after the connection.
        self._timeout = PausableTimeout(request.timeout + request.trial)
        self._link: HostConnection | None = None
        self._accepted = asyncio.Event()
        self._launcher: ExpectedLaunch | None = None

    async def within_limit(self, starting: Coroutine[Any, Any, None]) -> None:
        """Await `starting` within the start's time limit. Raises TimeoutExceeded and its errors."""
        await self._timeout.run(starting)

    async def connect(self) -> None:
        """Connect to the host if necessary. Raises HostError."""
        phase = Phase.LAUNCHING if self._host.connected else Phase.CONNECTING
        starts().note(self._request.kernel_id, phase, host=self._spec.name)
        self._link = await self._host.link()
        self._patient = self._patient or self._link.agent.protocol < ACCEPTS
        starts().note(self._request.kernel_id, Phase.LAUNCHING, host=self._spec.name)

    @property
    def _channel(self) -> AgentChannel:
        assert self._link is not None
        return self._link.channel

    async def remove_earlier(self) -> None:
        """End the kernel of this id that another server left there."""
        await self._channel.request(Forget(kernel_id=self._request.kernel_id))

    async def prepare(self) -> Start:
        """Send what the start needs, and expect a launcher. Returns the request for the agent."""
        request = self._request
        if not self._patient and request.resource_dir is not None:
            await self._host.unless_silent(self._channel.request(GetLoad()), asyncio.Event())
        resources = await put_resources(request.resource_dir, self._channel)
        secret, substitutions = {}, {}
        if request.reports_endpoints:
            self._launcher = self._reports.expect(request.kernel_id)
            address = "ipc://" + await self._host.expose(self._reports.path)
            substitutions = {
                "response_address": address,
                "public_key": self._reports.public_key,
            }
            secret = {SECRET_VARIABLE: self._launcher.secret}
        message = start_message(
            request, self._spec, substitutions=substitutions, secret=secret, resources=resources
        )
        if self.restarts:
            message.capacity = None
        return message

    async def send(self, message: Start) -> KernelDescription:
        """Have the agent start the process. Returns when that runs. Raises HostError."""
        asked = self._channel.request(message)
        if self._patient:
            started = await asked
        else:
            started = await self._host.unless_silent(asked, self._accepted)
        self._timeout.resume()
        return started

    def on_event(self, event: Any) -> None:
        """The agent reports an event of this kernel."""
        if isinstance(event, Accepted):
            self._accepted.set()
        elif isinstance(event, Queued):  # waiting there does not count
            self._timeout.suspend()
            log.info(
                "kernel %s: waits in the queue of %s", self._request.kernel_id, self._spec.name
            )
            starts().note(self._request.kernel_id, Phase.QUEUED, ahead=event.ahead)

    def tell_launcher(self, connection: dict[str, Any], on_report: Callable[[], None]) -> None:
        """Give the kernel's connection to its launcher, if it has one."""
        if self._launcher is not None:
            self._launcher.connection.set_result(connection)
            self._launcher.reported.add_done_callback(lambda _: on_report())

    @property
    def reported(self) -> Mapping[str, Any] | None:
        """The connection that the launcher has reported; None until it has."""
        if self._launcher is None or not self._launcher.reported.done():
            return None
        return self._launcher.reported.result()

    async def pass_report(self, connection: dict[str, Any]) -> None:
        """Tell the agent the reported endpoints: it needs them before a client's stream does."""
        report = ReportListening(kernel_id=self._request.kernel_id, connection=connection)
        await self._channel.request(report)

    def close(self) -> None:
        """Expect no launcher any more."""
        self._reports.forget(self._request.kernel_id)
