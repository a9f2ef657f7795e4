"""YarnProvisioner: YARN chooses the node. The same contract, over a launcher instead of SSH."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...agent.kernels.environment import kernel_environment, resolve_command, substitute
from ...errors import ConfigurationError, HostError, LaunchTimeoutError, RemoteProvisionerError
from ...events import Phase
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...kernels.lifecycle import Lifecycle, State
from ...kernels.pausable_timeout import PausableTimeout, TimeoutExceeded
from ...kernels.remote_kernel import RemoteKernel
from ...kernels.starts import starts
from ...options.config import Flag, Text
from ...options.launch_request import LaunchRequest
from ...placement.host_address import NodeAddress
from ...placement.inventory import HostSpec
from ...provisioner import DistributedProvisioner
from ..certificate import identity
from ..submission import Container, Submission, kill, new_secret, reports
from .resource_manager import ResourceManager, configuration_directory, endpoints_of

#: What is run in the container, and with what (docs/spark.md).
_KERNEL = ("python", "{resource_dir}/scripts/cluster.py", "{connection_file}")
_NO_KERNEL = "YARN chooses the node of a kernel: KERNEL_REMOTE_HOST cannot be asked for"


class YarnProvisioner(DistributedProvisioner):
    """Starts kernels in containers of YARN: the driver of Spark's cluster mode is the kernel."""

    yarn_endpoint = Text(
        "",
        help="""The web address of YARN's ResourceManager, such as http://master:8088. Empty: what
        yarn-site.xml says, in YARN_CONF_DIR or HADOOP_CONF_DIR of the kernelspec's env.""",
    ).tag(config=True)

    alt_yarn_endpoint = Text(
        "",
        help="""That of a second one (high availability), asked when the first does not answer or
        is not the active one.""",
    ).tag(config=True)

    yarn_endpoint_security_enabled = Flag(
        False,
        help="""Whether the ResourceManager has to show by Kerberos (SPNEGO) who it is; one that
        does not is not spoken to. False: Kerberos is used where the ResourceManager asks for it.
        Either way it needs `pip install remote-provisioners[kerberos]` and a ticket.""",
    ).tag(config=True)

    response_address = Text(
        "",
        help="""Where launchers on the nodes reach this server: an address of this machine, or
        address:port. Empty: the address that leads to the ResourceManager, any port.""",
    ).tag(config=True)

    impersonation = Flag(
        False,
        help="""Whether the kernel runs as KERNEL_USERNAME (spark-submit --proxy-user), which
        Hadoop has to allow the server's user. False: as the server's user.""",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        self._tag = ""
        self._container: Container | None = None
        self._state = ""
        super().__init__(**kwargs)

    # -- start ------------------------------------------------------------------------------

    async def _start_on(self, name: str, request: LaunchRequest) -> RemoteKernel:
        raise ConfigurationError(_NO_KERNEL)

    async def _start(self, request: LaunchRequest) -> RemoteKernel:
        container, limit = await self._submit(request)
        try:
            kernels = await host_registry()
            starting = kernels.start_on(
                self._spec(container),
                self._inside(request, container, limit),
                self.network_grace,
                container.directory,
            )
            return await starting
        except BaseException:
            environ = self._environment(request)
            await asyncio.shield(kill(self._manager(environ), self._tag, environ))
            raise

    async def move_to(self, name: str) -> None:
        raise ConfigurationError(_NO_KERNEL)

    async def _restart(self, kernel: RemoteKernel, request: LaunchRequest, pinned: bool) -> None:
        """In another container: a driver of Spark has one session in its life."""
        if pinned:
            raise ConfigurationError(_NO_KERNEL)
        kernels = await host_registry()
        await kernels.leave(kernel)
        kernel.life = Lifecycle()  # for whoever polls while it waits for its container
        try:
            container, limit = await self._submit(request)
        except BaseException as error:
            kernel.life.lost(str(error))
            raise
        inside = self._inside(request, container, limit)
        await kernels.move(kernel, self._spec(container), container.directory, inside)

    async def _submit(self, request: LaunchRequest) -> tuple[Container, float]:
        """A container, and the seconds that are left for the kernel. Raises what is in errors."""
        environ = self._environment(request)
        manager = self._manager(environ)
        self._tag = f"launch-{secrets.token_hex(8)}"
        secret = new_secret()
        listener = await reports()
        values = {
            "kernel_id": request.kernel_id,
            "resource_dir": str(self.kernel_spec.resource_dir),
            "response_address": await listener.address(self.response_address, manager.endpoints[0]),
            "public_key": identity().fingerprint,
            "port_range": "{}..{}".format(*request.port_range),
        }
        argv = [substitute(word, values) for word in request.argv]
        submission = Submission(
            manager,
            resolve_command(argv, sys.executable, environ),
            {**environ, "RP_LAUNCH_TAG": self._tag},
            self._tag,
            secret,
            self._say,
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._container = await PausableTimeout(request.timeout).run(submission.run())
        except TimeoutExceeded:
            raise LaunchTimeoutError(
                f"no container within {request.timeout:g} s (launch_timeout): "
                f"{self._state or 'the application was not submitted yet'}; it was killed"
            ) from None
        finally:
            self._state = ""
        return self._container, max(1.0, request.timeout - (loop.time() - began))

    def _environment(self, request: LaunchRequest) -> dict[str, str]:
        """That of the program that submits: this process's, under the kernelspec's."""
        environ = kernel_environment(os.environ, request.env, request.request_env)
        user = request.request_env.get("KERNEL_USERNAME", "")
        if self.impersonation and user:
            environ["RP_PROXY_USER"] = user
        return environ

    def _manager(self, environ: Mapping[str, str]) -> ResourceManager:
        given = [e for e in (self.yarn_endpoint, self.alt_yarn_endpoint) if e]
        directory = configuration_directory(environ)
        if not given and not directory:
            raise ConfigurationError(
                "where YARN is, is not known: set yarn_endpoint, or HADOOP_CONF_DIR in the env of "
                "the kernelspec to the directory of yarn-site.xml on this machine"
            )
        endpoints = given or endpoints_of(directory)
        return ResourceManager(
            endpoints,
            environ,
            secure=self.yarn_endpoint_security_enabled,
            user=environ.get("RP_PROXY_USER", ""),
        )

    def _say(self, words: str) -> None:
        self._state = words
        starts().note(self.kernel_id, Phase.WAITING, text=words)
        self.log.info("kernel %s: %s", self.kernel_id, words)

    def _spec(self, container: Container) -> HostSpec:
        address = NodeAddress(container.host, port=container.port, secret=container.secret)
        return HostSpec(container.host, address, python=container.python)

    def _inside(
        self, request: LaunchRequest, container: Container, seconds: float
    ) -> LaunchRequest:
        """The request to the agent in the container."""
        python = (self.kernel_spec.language or "").lower() == "python"
        return replace(
            request,
            argv=(*_KERNEL, *request.argv[2:]),
            env={},
            cwd=(*request.cwd, container.cwd),
            transport="ipc" if python and not request.port_range[1] else "tcp",
            timeout=seconds,
            reports_endpoints=False,
            warm=0,
        )

    # -- life -------------------------------------------------------------------------------

    @property
    def reason(self) -> str:
        """What YARN says while the kernel waits for its container; why the kernel ended."""
        said, kernel, container = super().reason, self._kernel, self._container
        if container is not None and kernel is not None and kernel.life.state is State.LOST:
            said = f"{said}; it was {container.application_id} of YARN"
        return self._state or said

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL by the launcher; where that cannot be reached, YARN ends the container."""
        await super().kill(restart)
        if self._kernel is not None and self._kernel.life.state is State.LOST:
            await self._kill_application()

    async def cleanup(self, restart: bool = False) -> None:
        """Leave nothing behind. The container ends when its kernel has, or YARN ends it."""
        kernel = self._kernel
        await super().cleanup(restart)
        if kernel is not None and not restart and kernel.life.state is not State.EXITED:
            await self._kill_application()

    async def _kill_application(self) -> None:
        request = self._request
        if request is None or not self._tag:
            return
        try:
            environ = self._environment(request)
            await io_thread().call(kill(self._manager(environ), self._tag, environ))
        except RemoteProvisionerError as error:
            self.log.warning("kernel %s: not killed by YARN: %s", self.kernel_id, error)

    # -- to come back -----------------------------------------------------------------------

    async def get_provisioner_info(self) -> dict[str, Any]:
        """As the base class; holds the secret of the launcher, too."""
        info = await super().get_provisioner_info()
        container = self._container
        if container is not None and self._kernel is not None:
            info["yarn"] = {**vars(container), "tag": self._tag}
        return info

    async def _expect(self, info: Mapping[str, Any]) -> RemoteKernel:
        left = dict(info.get("yarn") or {})
        if not left:
            raise HostError("no container of YARN is known for the kernel")
        self._tag = left.pop("tag")
        container = self._container = Container(**left)

        async def expect() -> RemoteKernel:
            spec = self._spec(container)
            kernels = await host_registry()
            return await kernels.expect(self.kernel_id, spec, info, self.network_grace)

        self._kernel = await io_thread().call(expect())
        self._waited = False
        return self._kernel
