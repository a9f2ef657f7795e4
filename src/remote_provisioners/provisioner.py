"""DistributedProvisioner: jupyter_client's contract over the network. An adapter, without I/O.

Every method is called by a KernelManager, on its event loop (the blocking manager's runs only
during the call); what has to do with a host is done in the I/O thread and awaited here.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import posixpath
import signal
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import zmq
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import TraitError

from .errors import ConfigurationError, HostError, KernelLostError, RemoteProvisionerError
from .hosts.registry import host_registry
from .io_thread import io_thread
from .kernels.lifecycle import State
from .kernels.remote_kernel import RemoteKernel
from .kernels.starts import starts
from .options.config import RemoteProvisionerConfigMixin, option_names
from .options.launch_request import (
    SESSION_VARIABLE,
    LaunchRequest,
    authorize,
    build_request,
    request_environment,
)
from .placement.inventory import HostSpec
from .placement.policies import load_balancer
from .placement.scheduler import scheduler
from .protocol.messages import Announce
from .server.records import keeper_of

T = TypeVar("T")

#: Within which a kernel that is asked to has usually ended.
_PROMPT_END_SECONDS = 0.5
#: Of a shutdown whose message cannot reach the kernel.
_UNREACHABLE_WAIT_SECONDS = 0.2


class DistributedProvisioner(RemoteProvisionerConfigMixin, KernelProvisionerBase):  # type: ignore[metaclass]
    """Starts kernels on a set of hosts, by SSH, without a resource manager."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises ConfigurationError for an option that does not exist or cannot be used."""
        unknown = sorted(set(kwargs) - set(self.class_trait_names()) - {"parent", "config"})
        if unknown:
            raise ConfigurationError(
                f"unknown option {', '.join(unknown)} in the kernelspec's kernel_provisioner "
                f"config (known: {', '.join(option_names())})"
            )
        self._kernel: RemoteKernel | None = None
        self._request: LaunchRequest | None = None
        self._waited = False
        #: What `get_provisioner_info` of another process said of the kernel that is to be ours.
        self._left: Mapping[str, Any] | None = None
        self._came_back = False
        self._announcement = ""
        #: Where the next restart is to start the kernel, "" where it is.
        self._destination = ""
        #: The file that it is for, as Jupyter's servers say.
        self._notebook = ""
        #: Whether it may run on a host that could not be told to end it, after `cleanup`.
        self.left_behind = False
        try:
            super().__init__(**kwargs)
        except TraitError as error:
            raise ConfigurationError(str(error)) from None
        self.check_options()

    # -- start ------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Build and check the request; by `KernelManager` before `launch_kernel`.

        `env` of the start request is taken for its KERNEL_ variables only (the process's own
        environment where no request came with one). With `provisioner_info`, as
        `get_provisioner_info` gave it to an earlier process, the first `launch_kernel` takes
        charge of that kernel. Raises ConfigurationError, UnauthorizedError.
        """
        left = kwargs.pop("provisioner_info", None)
        if left is not None:
            kwargs = {**left.get("launch", {}), **kwargs}  # of its start, for when it is restarted
            if not self._came_back:  # a restart brings it again
                self._left, self._came_back = left, True
        self._notebook = str((kwargs.get("env") or {}).get("JPY_SESSION_NAME", ""))
        request_env = request_environment(kwargs.get("env") or os.environ, self.kernel_id)
        self.username = request_env.get("KERNEL_USERNAME", "")
        authorize(
            self.username,
            getpass.getuser(),
            self.authorized_users,
            self.unauthorized_users,
        )
        spec = self.kernel_spec
        self._request = build_request(
            kernel_id=self.kernel_id,
            argv=[*spec.argv, *kwargs.get("extra_arguments", [])],
            spec_env=spec.env,
            resource_dir=spec.resource_dir,
            request_env=request_env,
            cwd=str(kwargs["cwd"]) if kwargs.get("cwd") else None,
            session=self._session(request_env),
            port_range=self.port_range,
            launch_timeout=self.launch_timeout,
            warm=self.warm,
            output=(_bytes(self.output_memory), _bytes(self.output_disk)),
            lease=self.lease,
        )
        return {**kwargs, "cmd": list(self._request.argv)}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel, or start it again where it was; by `KernelManager`.

        A restart waits for a host that is away until the grace is over, and moves then, unless
        the request names the host.

        Returns once it listens, with endpoints on this machine that stay the same through
        restarts. Raises the errors of :mod:`.errors`; nothing is left running then.
        """
        request = self._request
        assert request is not None
        kernel = self._kernel
        keeper = keeper_of(self.parent)
        left, self._left = self._left, None
        if kernel is None and left is not None:
            return await self._come_back(left, wait=keeper is None)
        pinned = request.request_env.get("KERNEL_REMOTE_HOST", "").strip()
        if kernel is None:
            starting = self._start_on(pinned, request) if pinned else self._start(request)
            try:
                kernel = self._kernel = await io_thread().call(self._under_way(starting))
            except BaseException:
                if keeper is not None and not await io_thread().call(self._has_pending_kill()):
                    keeper.failed(self.kernel_id)
                raise
        else:
            restarting = self._restart(kernel, request, bool(pinned))
            await io_thread().call(self._under_way(restarting, "restart"))
        self._waited = False
        kernel.stays = self.leave_kernels_running
        await self._announce()
        self.log.info("kernel %s: runs on %s, pid %s", self.kernel_id, kernel.spec.name, kernel.pid)
        self.connection_info = kernel.client_connection()
        if keeper is not None:
            keeper.runs(self.parent, await self.get_provisioner_info())
        return self.connection_info

    async def _under_way(self, starting: Coroutine[Any, Any, T], kind: str = "start") -> T:
        return await starts().run(self.kernel_id, starting, kind, self._notebook)

    def _session(self, request_env: Mapping[str, str]) -> dict[str, Any]:
        """The part of the connection that client and kernel share: how messages are signed."""
        manager = self.parent
        session: dict[str, Any] = {
            "kernel_name": getattr(manager, "kernel_name", ""),
            "jupyter_session": request_env.get(SESSION_VARIABLE, ""),
        }
        if manager is None:
            return session
        session["key"] = manager.session.key.decode("ascii")
        session["signature_scheme"] = manager.session.signature_scheme
        policy = str(getattr(manager, "transport_encryption", "disabled"))
        wanted = policy == "required" or (
            policy == "auto" and manager._kernel_supports_curve_encryption()
        )
        if wanted:  # CurveZMQ end to end, within the tunnel
            if manager.curve_publickey is None:
                manager.curve_publickey, manager.curve_secretkey = zmq.curve_keypair()
            session["curve_publickey"] = manager.curve_publickey.decode("ascii")
            session["curve_secretkey"] = manager.curve_secretkey.decode("ascii")
        return session

    async def _come_back(self, left: Mapping[str, Any], wait: bool) -> KernelConnectionInfo:
        """Take charge of a kernel that was left running; who does not `wait` will `settle`."""
        kernel = await self._expect(left)
        if wait:
            await self.claim()
        kernel.stays = self.leave_kernels_running
        self.connection_info = kernel.client_connection()
        return self.connection_info

    async def _start(self, request: LaunchRequest) -> RemoteKernel:
        return await (await scheduler()).start(
            request,
            self.inventory(),
            self._noted,
            load_balancer(self.load_balancing_algorithm),
            self.network_grace,
        )

    async def _start_on(self, name: str, request: LaunchRequest) -> RemoteKernel:
        spec = self._noted(self.host_spec(name))
        return await (await host_registry()).start_on(spec, request, self.network_grace)

    def _noted(self, spec: HostSpec) -> HostSpec:
        """`completed`, with a record of the start that is about to be asked for there."""
        spec = self.completed(spec)
        keeper = keeper_of(self.parent)
        if keeper is not None:
            nothing: dict[str, Any] = {"host_connection": {}, "connection_info": {}}
            keeper.starts(self.parent, {"kernel_id": self.kernel_id, "host": spec.name, **nothing})
        return spec

    async def move_to(self, name: str) -> None:
        """Have the next restart start the kernel on this host, which is connected to now.

        Raises ConfigurationError, HostError: the kernel stays as it is then.
        """
        spec = self.host_spec(name)
        await io_thread().call(self._connect(spec))
        self._destination = spec.name

    @staticmethod
    async def _connect(spec: HostSpec) -> None:
        await (await host_registry()).host(spec).link()

    async def _restart(self, kernel: RemoteKernel, request: LaunchRequest, pinned: bool) -> None:
        destination, self._destination = self._destination, ""
        if destination and destination != kernel.spec.name:
            kernels = await host_registry()
            await kernels.leave(kernel)
            await kernels.move(kernel, self._noted(self.host_spec(destination)), "", request)
            return
        policy = None if pinned else load_balancer(self.load_balancing_algorithm)
        await (await scheduler()).restart(kernel, request, self.inventory(), self.completed, policy)

    # -- life -------------------------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        """True from `launch_kernel` until `wait` has returned the exit code."""
        return self._kernel is not None and not self._waited

    async def poll(self) -> int | None:
        """None while the kernel starts, runs, or cannot be reached within the grace; else the
        exit code. By `KernelManager.is_alive` and the restarter, often: reads memory only.
        """
        kernel = self._kernel
        if kernel is None:
            return 0
        ip = kernel.client_sockets.ip
        if self.parent is not None and self.connection_info.get("ip") not in (None, ip):
            self.connection_info["ip"] = self.parent.ip = ip  # clients to come find it there
        return kernel.life.poll()

    async def wait(self) -> int | None:
        """The kernel's exit code (negative: the signal), once it has ended; by the manager's
        `finish_shutdown` and `kill_kernel`.
        """
        kernel = self._kernel
        if kernel is None:
            return 0
        code = await io_thread().call(kernel.wait())
        self._waited = True
        return code

    async def send_signal(self, signum: int) -> None:
        """Signal the process group of the kernel; by `KernelManager.signal_kernel`.

        Raises HostError while the host cannot be reached, except where the manager interrupts
        a kernel that it shuts down: `kill` will see to it.
        """
        if self._kernel is None:
            return
        try:
            await io_thread().call(self._kernel.signal(signum))
        except HostError as error:
            if not getattr(self.parent, "shutting_down", False):
                raise
            self.log.warning("kernel %s: signal %d not sent: %s", self.kernel_id, signum, error)

    async def terminate(self, restart: bool = False) -> None:
        """SIGTERM to the process group; by the manager when a shutdown takes too long."""
        await self.send_signal(signal.SIGTERM)

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL to the process group; by the manager, which then waits.

        Where the host cannot be reached the kernel is given up, and ended when the host is back.
        """
        if self._kernel is not None:
            await io_thread().call(self._kernel.kill())

    async def shutdown_requested(self, restart: bool = False) -> None:
        """The manager has sent its shutdown message; return when the kernel has ended.

        For a moment only: a kernel that takes longer is awaited by the manager, which would
        look at one that ends at once only every 100 ms.
        """
        kernel = self._kernel
        if kernel is not None and kernel.life.state is not State.UNREACHABLE:
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                ended = io_thread().call(kernel.wait())
                await asyncio.wait_for(ended, _PROMPT_END_SECONDS)

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """As the manager would, but no waiting for a kernel that cannot have been told."""
        kernel = self._kernel
        unreachable = kernel is not None and kernel.life.state is State.UNREACHABLE
        return min(recommended, _UNREACHABLE_WAIT_SECONDS) if unreachable else recommended

    async def post_launch(self, **kwargs: Any) -> None:
        """By `KernelManager` after `launch_kernel`: the kernel listens already."""

    async def cleanup(self, restart: bool = False) -> None:
        """Leave nothing behind, here and there; by `KernelManager` after the end of a kernel.

        With `restart` everything stays for the next `launch_kernel`.
        """
        kernel = self._kernel
        if kernel is None:
            return
        if restart:
            kernel.client_sockets.show()  # the manager has just removed what it takes for ipc files
            return
        self._kernel = None
        await io_thread().call(self._end(kernel))
        self.left_behind = await io_thread().call(self._has_pending_kill())

    @staticmethod
    async def _end(kernel: RemoteKernel) -> None:
        await (await host_registry()).end(kernel)

    async def _has_pending_kill(self) -> bool:
        return (await host_registry()).has_pending_kill(self.kernel_id)

    # -- to come back -----------------------------------------------------------------------

    async def get_provisioner_info(self) -> dict[str, Any]:
        """What another process needs to take charge of the kernel: where it is, its connection.

        Holds the session key: keep it as secret as a connection file.
        """
        info = await super().get_provisioner_info()
        kernel = self._kernel
        if kernel is not None:
            info["connection_info"] = {**self.connection_info, "key": kernel.connection["key"]}
            info["host"] = kernel.spec.name
            info["pid"] = kernel.pid
            info["host_connection"] = kernel.connection
            info["owner"] = kernel.owner
            info["agent"] = kernel.host.directory
            request = self._request
            if request is not None:
                info["launch"] = {"env": dict(request.request_env), "cwd": (*request.cwd, None)[0]}
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Take charge of the kernel that `get_provisioner_info` of another process described.

        `connection_info` has endpoints of this process afterwards. Raises KernelLostError when
        the host does not know the kernel, HostError.
        """
        await super().load_provisioner_info(provisioner_info)
        if "host" not in provisioner_info:
            return
        self.connection_info = (await self._expect(provisioner_info)).client_connection()
        await self.claim()

    async def _expect(self, info: Mapping[str, Any]) -> RemoteKernel:
        """Have the kernel that `info` describes, unasked: `claim` and `settle` look for it."""

        self.username = info.get("launch", {}).get("env", {}).get("KERNEL_USERNAME", "")

        async def expect(spec: HostSpec) -> RemoteKernel:
            kernels = await host_registry()
            return await kernels.expect(self.kernel_id, spec, info, self.network_grace)

        self._kernel = await io_thread().call(expect(self.host_spec(info["host"])))
        self._waited = False
        return self._kernel

    async def claim(self) -> None:
        """Find the kernel that is expected; let go if it fails: KernelLostError, HostError."""
        kernel = self._kernel
        assert kernel is not None
        try:
            await io_thread().call(kernel.claim())
        except BaseException:
            await self.let_go()
            raise

    async def settle(self) -> None:
        """Find the kernel that is expected, once its host can be reached, or give it up.

        Raises KernelLostError. What became of it is in `poll` and `reason`.
        """
        if self._kernel is not None:
            await io_thread().call(self._kernel.settle())

    async def finish(self, info: Mapping[str, Any], seconds: float) -> None:
        """End the kernel that `info` describes, which an earlier process was about to end or to
        start, as soon as its host can be reached; it has so long to end by itself.

        `left_behind` if the host could not be reached within the grace.
        """
        kernel = await self._expect(info)
        try:
            with contextlib.suppress(KernelLostError, asyncio.TimeoutError, TimeoutError):
                await self.settle()
                await asyncio.wait_for(io_thread().call(kernel.wait()), seconds)
        finally:
            await self.cleanup()

    @property
    def unclaimed(self) -> bool:
        """Whether the kernel that is expected has not been found yet."""
        return self._kernel is not None and self._kernel.unclaimed

    @property
    def reason(self) -> str:
        """Why the kernel ended, "" while it runs."""
        return self._kernel.life.reason if self._kernel is not None else ""

    @property
    def place(self) -> str:
        """The host it is on, "" when there is no kernel."""
        return self._kernel.spec.name if self._kernel is not None else ""

    async def replay_output(self) -> None:
        """Have the next client of the kernel's output get what nobody has heard yet."""
        if self._kernel is not None:
            await io_thread().call(self._replay(self._kernel))

    @staticmethod
    async def _replay(kernel: RemoteKernel) -> None:
        # The manager's own, which sees what the kernel does, comes first.
        for _ in range(100):
            if kernel.client_sockets.has_client("iopub"):
                break
            await asyncio.sleep(0.01)
        kernel.client_sockets.replay()

    async def announce(self, text: str) -> None:
        """Show a text in the next cell that the kernel runs; as soon as it has started."""
        self._announcement = text
        await self._announce()

    async def _announce(self) -> None:
        kernel, text = self._kernel, self._announcement
        if kernel is None or not text:
            return
        self._announcement = ""
        try:
            asked = kernel.host.request(Announce(kernel_id=self.kernel_id, text=text))
            await io_thread().call(asked)
        except RemoteProvisionerError as error:
            self.log.warning("kernel %s: not told that %s: %s", self.kernel_id, text, error)

    async def let_go(self) -> None:
        """Leave the kernel running, for another process to take charge of; ours no more."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            await io_thread().call(self._let_go(kernel))

    @staticmethod
    async def _let_go(kernel: RemoteKernel) -> None:
        (await host_registry()).let_go(kernel)

    def resolve_path(self, path: str) -> str | None:
        """`path` of the kernel's file system made absolute; whether it exists is not asked."""
        kernel = self._kernel
        if kernel is None or not kernel.cwd:
            return None
        if path == "~" or path.startswith("~/"):
            path = kernel.home + path[1:]
        return posixpath.normpath(posixpath.join(kernel.cwd, path))


def _bytes(mebibytes: float) -> int:
    return int(mebibytes * 1024 * 1024)
