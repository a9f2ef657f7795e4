"""The hosts of this process by address, and its kernels on them. In the I/O thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import zmq

from ..errors import KernelStartError, RemoteProvisionerError
from ..events import HostChanged, HostForgotten, KernelForgotten, KernelMoved, events
from ..io_thread import Closable, io_thread
from ..kernels.lifecycle import State
from ..kernels.own_sockets import OwnSockets
from ..kernels.remote_kernel import RemoteKernel
from ..kernels.start.known_transports import KnownTransports
from ..options.expected import expected_on
from ..options.launch_request import LaunchRequest
from ..placement.host_address import HostAddress
from ..placement.inventory import HostSpec
from .agent_channel import ChannelLostError
from .deploy_agent import agent_version, version_of
from .host import Host

#: A host keeps our clients' streams longer than we wait for the host.
_KEEP_AFTER_GRACE_SECONDS = 60.0
_NO_SOCKETS = "cannot open the sockets of kernels on this machine:\n{}"

log = logging.getLogger(__name__)

Beside = TypeVar("Beside", bound=Closable)


class Watcher(Protocol):
    """Receives the changes of hosts that placement needs."""

    def on_host_changed(self, host: Host) -> None:
        """The load or the circuit of `host` has changed."""

    def on_count_changed(self, spec: HostSpec) -> None:
        """This server's number of kernels on that host has changed."""


class HostRegistry:
    """The hosts and the kernels of this process. There is one: see `host_registry()`."""

    def __init__(self) -> None:
        self.hosts: dict[HostAddress, Host] = {}
        #: Kernels by the name of their host, including starts in progress or waiting for the host.
        self.counts: Counter[str] = Counter()
        self.watcher: Watcher | None = None
        #: Agents of other versions that still have kernels, by their directories.
        self._former: dict[tuple[HostAddress, str], Host] = {}
        #: The number of each host's visitors; the hosts that we leave once no kill is pending there
        self._visitors: Counter[Host] = Counter()
        self._leaving: set[Host] = set()
        self._parting: set[asyncio.Task[None]] = set()
        self._reaching: set[asyncio.Task[None]] = set()
        self._kernels: set[RemoteKernel] = set()
        self._beside: dict[type[Any], Any] = {}
        self.sockets = OwnSockets(lambda: [kernel.client_sockets for kernel in self.kernels])

    def beside(self, kind: type[Beside]) -> Beside:
        """The one object of this class that the hosts need. It is closed after them."""
        if kind not in self._beside:
            self._beside[kind] = kind()
        found: Beside = self._beside[kind]
        return found

    # -- hosts ------------------------------------------------------------------------------

    def host(self, spec: HostSpec) -> Host:
        """The host at this address. It connects when somebody needs it."""
        host = self.hosts.get(spec.address)
        if host is None:
            host = self.hosts[spec.address] = Host(spec.address)
            host.on_change = lambda: self._host_changed(host)
        host.may_have(spec.python)
        return host

    def host_with(self, spec: HostSpec, directory: str) -> Host:
        """The host with the agent in this directory, which may be of another version."""
        if not directory or version_of(directory) == agent_version():
            host = self.host(spec)
            host.may_be_in(directory)
            return host
        key = spec.address, directory
        if key not in self._former:
            host = self._former[key] = Host(spec.address, directory)
            host.on_change = lambda: self._former_changed(host)
        return self._former[key]

    @contextlib.asynccontextmanager
    async def visit(self, spec: HostSpec, directory: str) -> AsyncIterator[Host]:
        """The host with that agent, for a few requests. Afterwards the server leaves an agent of
        another version, unless we have kernels there.
        """
        host = self.host_with(spec, directory)
        self._visitors[host] += 1
        try:
            yield host
        finally:
            self._visitors[host] -= 1
            if not self._visitors[host]:
                del self._visitors[host]
            self._part(host)

    # -- kernels ----------------------------------------------------------------------------

    @property
    def kernels(self) -> list[RemoteKernel]:
        """The kernels of this process, in no order."""
        return list(self._kernels)

    async def start_on(
        self, spec: HostSpec, request: LaunchRequest, grace: float, agent: str = ""
    ) -> RemoteKernel:
        """Start a kernel on this host only. Raises the errors of RemoteKernel.launch.

        `agent`: the directory of the agent to use, if it is not an agent of ours.
        """
        kernel = await self.new_kernel(request.kernel_id, spec, grace, agent)
        try:
            await self.launch(kernel, request)
        except BaseException:
            self.close_kernel(kernel)
            raise
        return kernel

    async def launch(self, kernel: RemoteKernel, request: LaunchRequest) -> None:
        """Start the kernel on its host. Raises the errors of RemoteKernel.launch."""
        # On failure, clients cannot connect yet. It is tried again.
        with contextlib.suppress(OSError, zmq.ZMQError):
            await self.sockets.open()
        if not request.trial:
            await self._launch(kernel, request)
            return
        known = self.beside(KnownTransports)
        # After a restart, a kernel listens as before.
        transport = kernel.connection.get("transport") or await known.of(kernel.spec, request)
        if transport:
            request = request.by(transport)
        try:
            await self._launch(kernel, request)
        except KernelStartError:
            kernel.connection = {}  # it never listened there
            if transport:  # the host may have another version of this kernel by now
                await known.forget(kernel.spec, request)
                raise
            if kernel.life.state is not State.EXITED:
                raise
            log.info("kernel %s: binds no unix sockets; starts with ports", kernel.kernel_id)
            request = request.by("tcp")
            try:
                await self._launch(kernel, request)
            except KernelStartError:
                kernel.connection = {}
                raise
        if not transport:
            await known.note(kernel.spec, request)

    async def _launch(self, kernel: RemoteKernel, request: LaunchRequest) -> None:
        kernel.host.expect(expected_on(kernel.spec, request))
        try:
            await kernel.launch(request, self.sockets.reports)
        except ChannelLostError:
            if not kernel.patient:
                raise
            # Nothing else can be tried, and the agent may only have been killed. The next agent
            # ends what the first request has started, at the latest when it gets the second one.
            log.info("kernel %s: starts again on %s", kernel.kernel_id, kernel.spec.name)
            await kernel.launch(request, self.sockets.reports)

    async def leave(self, kernel: RemoteKernel) -> None:
        """End what is left of the kernel on its host before `move`."""
        await kernel.discard()
        kernel.host.forget(kernel)
        self._part(kernel.host, kernel)
        kernel.wait_for_place()

    def move(self, kernel: RemoteKernel, spec: HostSpec, agent: str = "") -> None:
        """Use that host and agent for the next launch. The endpoints here stay."""
        former = kernel.spec
        kernel.move(spec, self.host_with(spec, agent))
        self._count(former, -1)
        self._count(spec, 1)
        events.tell(KernelMoved(kernel, former.name))

    async def prepare_adoption(
        self, kernel_id: str, spec: HostSpec, info: Mapping[str, Any], grace: float
    ) -> RemoteKernel:
        """A kernel that an earlier process left running, with its endpoints open here already.

        `info`: its `host_connection`, `pid`, `owner`, `machine`, `boot` and `agent`.
        RemoteKernel.adopt and adopt_when_reachable look for it.
        """
        kernel = await self.new_kernel(kernel_id, spec, grace, info.get("agent", ""))
        kernel.prepare_adoption(info)
        return kernel

    async def prepare_attachment(
        self, kernel_id: str, spec: HostSpec, agent: str, grace: float
    ) -> RemoteKernel:
        """A kernel that another process owns. RemoteKernel.adopt then attaches to it."""
        kernel = await self.new_kernel(kernel_id, spec, grace, agent)
        kernel.prepare_attachment()
        return kernel

    def let_go(self, kernel: RemoteKernel) -> None:
        """Leave the kernel running. A process with its record may adopt it."""
        kernel.host.leave_running(kernel)
        self.close_kernel(kernel)

    async def end(self, kernel: RemoteKernel) -> None:
        """End the kernel if it runs, and remove everything of it."""
        await kernel.discard()
        self.close_kernel(kernel)

    def kill_on(self, kernel_id: str, spec: HostSpec, agent: str) -> None:
        """End that kernel on this host, as soon as it can be reached."""
        host = self.host_with(spec, agent)
        host.kill(kernel_id)
        self._leaving.add(host)
        if not host.connected:
            task = asyncio.ensure_future(self._reach(host))
            self._reaching.add(task)
            task.add_done_callback(self._reaching.discard)

    async def _reach(self, host: Host) -> None:
        with contextlib.suppress(RemoteProvisionerError):
            await host.link()  # after a failure it goes on by itself

    def has_pending_kill(self, kernel_id: str) -> bool:
        """Whether a process of that kernel may still run on a host that could not be reached."""
        return any(
            h.has_pending_kill(kernel_id) for h in (*self.hosts.values(), *self._former.values())
        )

    async def close(self) -> None:
        """End the remaining kernels and disconnect."""
        for kernel in [k for k in self._kernels if k.stays and not k.life.over]:
            kernel.host.leave_running(kernel)
        for task in self._reaching:
            task.cancel()
        # Hosts first: they end the kernels, which must not wait for files here.
        hosts = [*self.hosts.values(), *self._former.values()]
        closing = [*(host.close() for host in hosts), *self._parting]
        for error in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("cannot close the connection to a host", exc_info=error)
        for kernel in list(self._kernels):
            self.close_kernel(kernel)
        for beside in reversed(self._beside.values()):
            await beside.close()
        await self.sockets.close()

    async def new_kernel(
        self, kernel_id: str, spec: HostSpec, grace: float, agent: str = ""
    ) -> RemoteKernel:
        """A new kernel, counted on its host, with open endpoints."""
        host = self.host_with(spec, agent)
        keep = _KEEP_AFTER_GRACE_SECONDS + 2 * grace

        def open_link(factory: Any) -> Any:
            return kernel.host.open_link(factory)  # on its host at that time

        with contextlib.suppress(OSError, zmq.ZMQError):  # `listen` will report it
            await self.sockets.open()
        client_sockets = self.sockets.of_kernel(kernel_id, open_link, keep)
        kernel = RemoteKernel(kernel_id, spec, host, client_sockets, grace)
        self._kernels.add(kernel)
        self._count(spec, 1)
        try:
            await client_sockets.listen()
        except (OSError, zmq.ZMQError) as error:
            self.close_kernel(kernel)
            raise KernelStartError(_NO_SOCKETS.format(error)) from None
        except BaseException:
            self.close_kernel(kernel)
            raise
        return kernel

    def close_kernel(self, kernel: RemoteKernel) -> None:
        """Remove the kernel from this process without ending it."""
        if kernel in self._kernels:
            self._kernels.discard(kernel)
            events.tell(KernelForgotten(kernel))
            kernel.host.forget(kernel)
            kernel.client_sockets.close()
            self._count(kernel.spec, -1)
            self._part(kernel.host)

    def _part(self, host: Host, leaving: RemoteKernel | None = None) -> None:
        """Leave an agent of another version, or of a temporary host, when nobody needs it, which
        `leaving` does no more. It then ends itself.
        """
        former = [key for key, other in self._former.items() if other is host]
        temporary = host.address.is_temporary and self.hosts.get(host.address) is host
        needed = any(kernel.host is host for kernel in self._kernels if kernel is not leaving)
        if not (former or temporary) or needed or self._visitors[host]:
            return
        if host.awaited and not temporary:
            self._leaving.add(host)  # a kernel there must be ended first
            return
        self._leaving.discard(host)
        for key in former:
            del self._former[key]
        if temporary:
            del self.hosts[host.address]
        host.on_change = lambda: None
        events.tell(HostForgotten(host))
        task = asyncio.ensure_future(host.close())
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)

    def _former_changed(self, host: Host) -> None:
        if host in self._leaving:
            self._part(host)

    @contextlib.contextmanager
    def counting(self, spec: HostSpec) -> Iterator[None]:
        """Count a start on the host that it waits for."""
        self._count(spec, 1)
        try:
            yield
        finally:
            self._count(spec, -1)

    def _count(self, spec: HostSpec, change: int) -> None:
        self.counts[spec.name] += change
        if not self.counts[spec.name]:
            del self.counts[spec.name]
        if self.watcher is not None:
            self.watcher.on_count_changed(spec)

    def _host_changed(self, host: Host) -> None:
        events.tell(HostChanged(host))
        if self.watcher is not None:
            self.watcher.on_host_changed(host)


async def host_registry() -> HostRegistry:
    """This process's registry. Call it in the I/O thread, which closes it when it ends.

    Raises KernelStartError.
    """
    try:
        return io_thread().own(HostRegistry)
    except (OSError, zmq.ZMQError) as error:
        raise KernelStartError(_NO_SOCKETS.format(error)) from None


async def end(kernel: RemoteKernel) -> None:
    """End the kernel if it runs, and remove everything of it. In the I/O thread."""
    await (await host_registry()).end(kernel)


async def let_go(kernel: RemoteKernel) -> None:
    """Leave the kernel running, for a process with its record. In the I/O thread."""
    (await host_registry()).let_go(kernel)


async def has_pending_kill(kernel_id: str) -> bool:
    """Whether a process of that kernel may still run somewhere. In the I/O thread."""
    return (await host_registry()).has_pending_kill(kernel_id)
