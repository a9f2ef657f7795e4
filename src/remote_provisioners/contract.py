"""jupyter_client's provisioner contract over the network, for any placer. Does no I/O itself.

A KernelManager calls every method on its event loop (the blocking manager's loop runs only during
the call). Work on a host happens in the I/O thread and is awaited here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.multikernelmanager import MultiKernelManager
from traitlets import TraitError

from .clients import notebooks
from .errors import ConfigurationError, HostError
from .hosts.registry import end, has_pending_kill
from .io_thread import from_any_loop, in_io_thread
from .kernels.description import describe
from .kernels.lifecycle import State
from .kernels.remote_kernel import RemoteKernel
from .kernels.remote_path import RESOLVE_SECONDS, resolve
from .kernels.start.short_errors import short_errors
from .kernels.start.starts import OwnStart, given_up_by_shutdown, run_start
from .options.config import CommonOptions
from .options.kinds import readable
from .options.launch_request import LaunchRequest, authorize, build_request, request_environment
from .options.session import session_of
from .placement.placer import Placer
from .restorable import Restorable
from .server.hooks.kernel import ready_again
from .server.hooks.shown_reason import ShownReason
from .server.restore.keepers import keeper_of
from .server.restore.record import lasting
from .user import user_name

#: The wait of a shutdown whose message cannot reach the kernel.
_UNREACHABLE_WAIT_SECONDS = 0.2


class RemoteProvisioner(CommonOptions, Restorable):  # type: ignore[metaclass]
    """The base of provisioners: options, and a placer that `_make_placer` creates."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises ConfigurationError for an unknown or invalid option."""
        unknown = sorted(set(kwargs) - set(self.class_trait_names()) - {"parent", "config"})
        if unknown:
            raise ConfigurationError(
                f"unknown option {', '.join(unknown)} in the kernelspec's kernel_provisioner "
                f"config (known: {', '.join(sorted(self.class_trait_names(config=True)))})"
            )
        self._request: LaunchRequest | None = None
        self._came_back = False
        self._shown_reason = ShownReason()
        #: The `get_provisioner_info` of another process, whose kernel is to be adopted.
        self._left: Mapping[str, Any] | None = None
        #: The path of the notebook, as Jupyter's servers pass it.
        self._notebook = ""
        self.own_start = OwnStart(lambda: ready_again(self.parent))
        #: After `cleanup`: whether it may still run on a host that could not be reached.
        self.left_behind = False
        try:
            super().__init__(**kwargs)
        except TraitError as error:
            raise ConfigurationError(readable(error)) from None
        self.check_options()
        self.placer = self._make_placer()

    def _make_placer(self) -> Placer:
        raise NotImplementedError

    def _kept_warm(self) -> int:
        """The number of kernels like it that its host should keep warm."""
        return 0

    # -- start ------------------------------------------------------------------------------

    @short_errors
    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Build and check the request. `KernelManager` calls this before `launch_kernel`.

        Only the KERNEL_ variables of the start request's `env` are used, or those of this process
        if the request has no `env`. With `provisioner_info`, which an earlier process got from
        `get_provisioner_info`, the first `launch_kernel` adopts that kernel. Raises
        ConfigurationError, UnauthorizedError.
        """
        left = kwargs.pop("provisioner_info", None)
        if left is not None:
            kwargs = {**left.get("launch", {}), **kwargs}  # of its start, for later restarts
            if not self._came_back:  # a restart passes it again
                self._left, self._came_back = left, True
        self._notebook = str((kwargs.get("env") or {}).get("JPY_SESSION_NAME", ""))
        request_env = request_environment(kwargs.get("env") or os.environ, self.kernel_id)
        self.username = request_env.get("KERNEL_USERNAME", "")
        authorize(self.username, user_name(), self.authorized_users, self.unauthorized_users)
        of_a_server = isinstance(getattr(self.parent, "parent", None), MultiKernelManager)
        if of_a_server and not self._came_back:
            self.check_request(request_env)
        spec = self.kernel_spec
        self._request = build_request(
            kernel_id=self.kernel_id,
            argv=[*spec.argv, *kwargs.get("extra_arguments", [])],
            spec_env=spec.env,
            resource_dir=spec.resource_dir,
            request_env=request_env,
            cwd=str(kwargs["cwd"]) if kwargs.get("cwd") else None,
            session=session_of(self.parent, request_env),
            port_range=self.port_range,
            launch_timeout=self.launch_timeout,
            warm=self._kept_warm(),
            output=self.output_bounds,
            lease=self.lease if of_a_server or self.leave_kernels_running else self.client_lease,
            left_idle=self.left_idle_timeout,
        )
        env = dict(kwargs.get("env") or os.environ)  # managers expect one there
        return {**kwargs, "env": env, "cmd": list(self._request.argv)}

    @short_errors
    @given_up_by_shutdown
    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel, or restart it on its host. `KernelManager` calls this.

        If the host is away, a restart waits until the grace is over. Then the kernel moves to
        another host, unless the request pins it.

        Returns when the kernel listens, with endpoints on this machine that stay the same through
        restarts. Raises the errors of :mod:`.errors` and then leaves nothing running.
        """
        request = self._request
        assert request is not None
        notebooks.prepare()
        kernel = self._kernel
        keeper = keeper_of(self.parent)
        left, self._left = self._left, None
        if kernel is None and left is not None:
            return await self._adopt_left(left, wait=keeper is None)
        if kernel is None:
            kernel = await self._start(request)
        else:
            restarting = self.placer.restart(kernel, request, self._record)
            await run_start(self.kernel_id, restarting, "restart", self._notebook)
        self._waited = False
        kernel.stay(self.leave_kernels_running)
        await self._announce()
        where = kernel.spec.address.label
        self.log.info("kernel %s: runs on %s, pid %s", self.kernel_id, where, kernel.pid)
        self.connection_info = kernel.client_connection()
        if keeper is not None:
            keeper.runs(self.parent, await self.get_provisioner_info())
        return self.connection_info

    async def _start(self, request: LaunchRequest) -> RemoteKernel:
        async def start() -> RemoteKernel:
            self._kernel = await self.placer.start(request, self._record)
            return self._kernel

        try:
            return await run_start(self.kernel_id, start(), "start", self._notebook)
        except BaseException:
            await self._end()  # the start may have succeeded just as it was cancelled
            keeper = keeper_of(self.parent)
            if keeper is not None and not await in_io_thread(has_pending_kill(self.kernel_id)):
                keeper.failed(self.kernel_id)
            raise

    async def move_to(self, name: str) -> None:
        """Connect to this host and make the next restart use it.

        Raises ConfigurationError or HostError, and then the kernel stays as it is.
        """
        await self.placer.prepare_move(name)

    def _record(self, where: Mapping[str, Any]) -> None:
        """Record a start before the host gets the request, so that the next server knows of it."""
        keeper = keeper_of(self.parent)
        if keeper is not None:
            asked, known = {"env": {"KERNEL_USERNAME": self.username}}, {}
            if self._kernel is not None and self._request is not None:
                # A restart, which the next server completes.
                asked, known = self._request.to_record, lasting(self._kernel.connection)
            fields = {"host_connection": known, "connection_info": known, "launch": asked, **where}
            keeper.starts(self.parent, {"kernel_id": self.kernel_id, "pid": None, **fields})

    async def _adopt_left(self, left: Mapping[str, Any], wait: bool) -> KernelConnectionInfo:
        """Adopt a kernel that was left running. Without `wait`, `adopt_when_reachable` does it."""
        kernel = await self.prepare_adoption(left)
        if wait:
            await self.adopt()
        kernel.stay(self.leave_kernels_running)
        self.connection_info = kernel.client_connection()
        return self.connection_info

    # -- life -------------------------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        """True from `launch_kernel` until `wait` has returned the exit code."""
        return self._kernel is not None and not self._waited

    async def poll(self) -> int | None:
        """None while the kernel starts, runs or is unreachable within the grace; then the exit
        code. `KernelManager.is_alive` and the restarter call this often; it only reads memory.
        """
        kernel = self._kernel
        if kernel is None:
            return 0
        ip = kernel.client_sockets.ip
        if self.parent is not None and self.connection_info.get("ip") not in (None, ip):
            self.connection_info["ip"] = self.parent.ip = ip  # for later clients
        if kernel.life.over and not self.placer.explained(kernel, self.parent):
            return None
        self._shown_reason.show(self.parent, kernel.life)
        return kernel.life.poll()

    async def wait(self) -> int | None:
        """The exit code at the kernel's end; a signal is negative. By the manager at a shutdown."""
        kernel = self._kernel
        if kernel is None:
            return 0
        code = await in_io_thread(kernel.wait())
        self._waited = True
        return code

    async def send_signal(self, signum: int) -> None:
        """Signal the kernel's process group. `KernelManager.signal_kernel` calls this.

        Raises HostError while the host cannot be reached. An interrupt during a shutdown only
        logs the error, because `kill` follows.
        """
        if self._kernel is None:
            return
        try:
            await in_io_thread(self._kernel.signal(signum))
        except HostError as error:
            if not getattr(self.parent, "shutting_down", False):
                raise
            self.log.warning("kernel %s: signal %d not sent: %s", self.kernel_id, signum, error)

    async def terminate(self, restart: bool = False) -> None:
        """Send SIGTERM to the process group. For a shutdown that takes too long."""
        await self.send_signal(signal.SIGTERM)

    async def kill(self, restart: bool = False) -> None:
        """Send SIGKILL to the process group. The manager calls this and then waits. If the host
        cannot be reached, the kernel counts as lost; it ends when the host is back.
        """
        await self.own_start.give_up()
        if self._kernel is not None:
            await in_io_thread(self._kernel.kill())
            if self._kernel.life.state is State.LOST:
                await self.placer.abandon(self._request)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Wait a moment for the kernel to end after the manager's shutdown message. The manager
        waits for slower kernels, but polls only every 100 ms.
        """
        kernel = self._kernel
        if kernel is not None and not kernel.life.unreachable:
            await in_io_thread(kernel.wait_a_moment())

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """The manager's wait, shortened for a kernel that the message cannot reach."""
        kernel = self._kernel
        unreachable = kernel is not None and kernel.life.unreachable
        return min(recommended, _UNREACHABLE_WAIT_SECONDS) if unreachable else recommended

    async def cleanup(self, restart: bool = False) -> None:
        """Remove everything, here and on the host. `KernelManager` calls this after a kernel's end.

        A start in progress is cancelled. With `restart`, everything else stays for the next
        `launch_kernel`.
        """
        await self.own_start.give_up()
        if not restart:
            await self._end()
        elif self._kernel is not None:
            self._kernel.client_sockets.show()  # the manager has just removed them as ipc files

    async def _end(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is None:
            return
        await in_io_thread(end(kernel))
        unconfirmed = kernel.life.state is not State.EXITED or self.placer.place_stays
        freed = unconfirmed and await self.placer.abandon(self._request)
        self.left_behind = not freed and await in_io_thread(has_pending_kill(self.kernel_id))

    # -- adoption ---------------------------------------------------------------------------

    async def get_provisioner_info(self) -> dict[str, Any]:
        """What another process needs to adopt the kernel: its host and its connection.

        It contains the session key. Keep it as secret as a connection file.
        """
        info = await super().get_provisioner_info()
        kernel = self._kernel
        if kernel is not None:
            info |= {**describe(kernel, self.connection_info), **self.placer.describe()}
            if self._request is not None:
                info["launch"] = self._request.to_record
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Adopt the kernel that another process described with `get_provisioner_info`.

        Afterwards `connection_info` has endpoints of this process. Raises HostError, or
        KernelLostError if the host does not know the kernel.
        """
        await super().load_provisioner_info(provisioner_info)
        if "host" not in provisioner_info:
            return
        self.connection_info = (await self.prepare_adoption(provisioner_info)).client_connection()
        await self.adopt()

    def resolve_path(self, path: str) -> Any:
        """`path` of the kernel's file system made absolute; None where there is nothing.

        Who calls from a running loop gets what is to be awaited, which jupyter_server does.
        """
        kernel = self._kernel
        return None if kernel is None else from_any_loop(resolve(kernel, path), RESOLVE_SECONDS)
