"""What this server knows about hosts and kernels. Lives on the server's event loop.

It reads the state of this process. Only methods that say so ask hosts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from ...errors import ConfigurationError, HostError, RemoteProvisionerError, UnreachableError
from ...hosts.found_kernels import kernels_on
from ...hosts.host import Host
from ...hosts.registry import HostRegistry, host_registry
from ...io_thread import io_thread
from ...kernels.remote_kernel import RemoteKernel
from ...kernels.start.starts import starts
from ...placement.host_address import HostAddress, parse_address
from ...placement.inventory import HostSpec
from ...protocol.agent_requests import GetStatus
from ..session_table import Session, SessionTable
from .configured import Configuration, ConfiguredHost
from .models import (
    Model,
    UnknownNameError,
    error_model,
    found_kernel_model,
    host_model,
    kernel_model,
    start_model,
)

T = TypeVar("T")

#: How many hosts are asked at the same time, and how long each may take.
_AT_ONCE = 32
_ANSWER_SECONDS = 6.0
#: How many models are made in one step on the event loop.
_AT_A_TIME = 50

#: Fields of a kernel that a host reports only when it is asked.
_ASKED = ("memory", "idle", "lease_left")


class View:
    """Makes the models.

    `since` returns when a host entered its state; None if nobody saw that. `time_left` returns the
    seconds until the engine ends a kernel; None if it does not.
    """

    def __init__(
        self,
        manager: Any,
        sessions: SessionTable,
        configuration: Configuration,
        since: Callable[[HostAddress], float | None],
        time_left: Callable[[str], float | None],
    ) -> None:
        self._manager = manager
        self._sessions = sessions
        self._configuration = configuration
        self._since = since
        self._time_left = time_left

    # -- hosts ------------------------------------------------------------------------------

    async def hosts(self) -> Model:
        """All configured hosts, and other hosts that have a kernel of this server."""
        configured = await self._configuration.read()
        known = await self._registry()
        return await asyncio.to_thread(self._hosts, configured.hosts, configured.problems, known)

    def _hosts(
        self,
        configured: Mapping[str, ConfiguredHost],
        problems: Mapping[str, str],
        known: HostRegistry,
    ) -> Model:
        hosts = dict(known.hosts)
        models = [
            self._model(place, hosts.get(place.spec.address)) for place in configured.values()
        ]
        addresses = {place.spec.address for place in configured.values()}
        # With a node of an engine whose agent has another version than ours.
        others = {kernel.host.address: kernel.host for kernel in known.kernels}
        models += [
            self._model(ConfiguredHost(HostSpec(host.name, address), ()), host)
            for address, host in others.items()
            if address not in addresses
        ]
        return {"hosts": models, "problems": dict(problems)}

    def _model(self, place: ConfiguredHost, host: Host | None) -> Model:
        return host_model(place.spec, place.kernelspecs, host, self._since(place.spec.address))

    async def host(self, name: str) -> Model:
        """One host. Raises UnknownNameError."""
        place = await self.configured_host(name)
        return self._model(place, (await self._registry()).hosts.get(place.spec.address))

    async def models_of(self, host: Host) -> list[Model]:
        """The models of a host, one for each name that the configuration has for it."""
        places = (await self._configuration.read()).by_address.get(host.address, [])
        if not places and host.kernels:
            places = [ConfiguredHost(HostSpec(host.name, host.address), ())]
        return [self._model(place, host) for place in places]

    async def reconnect(self, name: str) -> Model:
        """Connect to a host now, and get its load. Raises UnknownNameError, HostError."""
        place = await self.configured_host(name)
        await io_thread().call(within(_reach(place.spec)))
        return await self.host(name)

    async def ask_hosts(self) -> Model:
        """Connect to all hosts, get their load, then return :meth:`hosts`."""
        configured = (await self._configuration.read()).hosts.values()
        await io_thread().call(_of_all([place.spec for place in configured], _reach))
        return await self.hosts()

    async def configured_host(self, name: str) -> ConfiguredHost:
        """The host of this name, also a node of a kernel. Raises UnknownNameError."""
        configured = (await self._configuration.read()).hosts
        if name in configured:
            return configured[name]
        try:
            address = parse_address(name)
        except ConfigurationError:
            raise UnknownNameError("host", name) from None
        known = (await self._registry()).hosts
        for kernel in (await self._registry()).kernels:  # a node that an engine chose
            if kernel.spec.name == name:
                return ConfiguredHost(kernel.spec, ())
        if address not in known:
            raise UnknownNameError("host", name)
        return ConfiguredHost(HostSpec(name, address), ())

    # -- kernels ----------------------------------------------------------------------------

    async def kernels(self) -> Model:
        """The kernels of this server that run on hosts, and the starts in progress."""
        sessions = await self._sessions.of_kernels()
        models = []
        for number, kernel in enumerate((await self._registry()).kernels):
            if kernel.kernel_id in self._manager:
                models.append(self.model_of(kernel, sessions.get(kernel.kernel_id, ())))
            if number % _AT_A_TIME == _AT_A_TIME - 1:
                await asyncio.sleep(0)  # thousands of kernels do not hold the event loop
        return {"kernels": models, "starts": await self.starts()}

    async def kernel(self, kernel_id: str, ask: bool = False) -> Model:
        """One kernel of this server; `ask`: with memory and idle time. Raises UnknownNameError."""
        kernel = await self.of_this_server(kernel_id)
        model = await self.of_kernel(kernel)
        if ask:
            try:
                found = await io_thread().call(within(kernel.host.request(GetStatus())))
            except HostError as error:
                model["not_asked"] = error_model(error)
            else:
                for described in found.kernels:
                    if described.kernel_id == kernel_id:
                        model |= {name: getattr(described, name) for name in _ASKED}
        return model

    async def remote_kernels(self) -> Sequence[RemoteKernel]:
        return (await self._registry()).kernels

    async def notebooks(self) -> Mapping[str, Model | None]:
        """The notebook of each kernel of this server; None if it has none."""
        sessions = await self._sessions.of_kernels()
        kernels = (await self._registry()).kernels
        ours = [kernel.kernel_id for kernel in kernels if kernel.kernel_id in self._manager]
        return {kernel_id: _notebook(sessions.get(kernel_id, ())) for kernel_id in ours}

    async def of_kernel(self, kernel: RemoteKernel) -> Model:
        return self.model_of(kernel, await self._sessions.of_kernel(kernel.kernel_id))

    def model_of(self, kernel: RemoteKernel, sessions: Sequence[Session]) -> Model:
        """The model of a kernel, completed from the server's manager and the kernel's sessions."""
        model = kernel_model(kernel)
        name = kernel.connection.get("kernel_name", "")  # until the manager has the kernel
        model |= {"name": name, "execution_state": "", "last_activity": None}
        model["notebook"] = _notebook(sessions)
        model["time_left"] = self._time_left(kernel.kernel_id)
        if kernel.kernel_id in self._manager:
            manager = self._manager.get_kernel(kernel.kernel_id)
            activity = getattr(manager, "last_activity", None)
            model["name"] = manager.kernel_name
            model["execution_state"] = getattr(manager, "execution_state", "")
            model["last_activity"] = activity.isoformat() if activity is not None else None
        return model

    async def of_this_server(self, kernel_id: str) -> RemoteKernel:
        """Raises UnknownNameError."""
        for kernel in (await self._registry()).kernels:
            if kernel.kernel_id == kernel_id and kernel_id in self._manager:
                return kernel
        raise UnknownNameError("kernel", kernel_id)

    async def starts(self) -> list[Model]:
        async def under_way() -> list[Model]:
            return [start_model(start) for start in starts().under_way]

        return await io_thread().call(under_way())

    async def found_kernels(self) -> Model:
        """Ask every host for kernels of other servers, and for kernels without a server."""
        configured = (await self._configuration.read()).hosts
        specs = [place.spec for place in configured.values()]
        answers = await io_thread().call(_of_all(specs, kernels_on))
        ours = {kernel.kernel_id for kernel in (await self._registry()).kernels}
        kernels, failures = [], []
        for spec, answer in zip(specs, answers, strict=True):
            if isinstance(answer, RemoteProvisionerError):
                failures.append({**error_model(answer), "host": spec.name})
                continue
            kernels += [
                found_kernel_model(spec, agent, kernel)
                for agent, kernel in answer
                if kernel.kernel_id not in ours
            ]
        return {"kernels": kernels, "failures": failures}

    async def found_on(self, kernel_id: str, name: str) -> tuple[HostSpec, str]:
        """The host of a kernel that is not this server's, and the directory of its agent.

        Asks the host. Raises UnknownNameError, HostError.
        """
        spec = (await self.configured_host(name)).spec
        for agent, kernel in await io_thread().call(within(kernels_on(spec))):
            if kernel.kernel_id == kernel_id:
                return spec, agent
        raise UnknownNameError("kernel", kernel_id)

    async def _registry(self) -> HostRegistry:
        return await io_thread().call(host_registry())


def _notebook(sessions: Sequence[Session]) -> Model | None:
    if not sessions:
        return None
    return dict(sessions[-1])


async def _reach(spec: HostSpec) -> None:
    host = (await host_registry()).host(spec)
    await host.refresh_load()


async def within(asked: Awaitable[T], seconds: float | None = None) -> T:
    """What a host answers. Raises UnreachableError if that takes longer: its agent may hang."""
    seconds = seconds or _ANSWER_SECONDS
    try:
        return await asyncio.wait_for(asked, seconds)
    except (asyncio.TimeoutError, TimeoutError):
        raise UnreachableError(f"no answer within {seconds:g} s") from None


async def _of_all(
    specs: Sequence[HostSpec], ask: Callable[[HostSpec], Awaitable[T]]
) -> list[T | RemoteProvisionerError]:
    """Each host's answer, or the error."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(spec: HostSpec) -> T | RemoteProvisionerError:
        async with slots:
            try:
                return await within(ask(spec))
            except RemoteProvisionerError as error:
                return error

    return await asyncio.gather(*map(one, specs))
