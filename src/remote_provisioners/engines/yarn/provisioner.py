"""YarnProvisioner: kernels on nodes that YARN chooses, through a launcher instead of SSH."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...agent.kernels.environment import kernel_environment
from ...contract import RemoteProvisioner
from ...errors import ConfigurationError
from ...options.kinds import Flag, Text
from ...options.launch_request import LaunchRequest
from ...placement.placer import Placer
from ..placer import EnginePlacer
from .engine import YarnEngine
from .resource_manager import ResourceManager, configuration_directory, endpoints_of


class YarnProvisioner(RemoteProvisioner):
    """Starts kernels in YARN containers, as Spark drivers in cluster mode."""

    yarn_endpoint = Text(
        "",
        help="""The web address of YARN's ResourceManager, such as http://master:8088. Empty: the
        address in yarn-site.xml, in YARN_CONF_DIR or HADOOP_CONF_DIR of the kernelspec's env.""",
    ).tag(config=True)

    alt_yarn_endpoint = Text(
        "",
        help="""The web address of a second ResourceManager (high availability). It is used if the
        first one does not answer or is not the active one.""",
    ).tag(config=True)

    yarn_endpoint_security_enabled = Flag(
        False,
        help="""If true, the ResourceManager must prove its identity by Kerberos (SPNEGO), otherwise
        the start fails. If false, this package uses Kerberos only if the ResourceManager asks for
        it. Kerberos needs `pip install 'remote-provisioners[kerberos]'` and a ticket.""",
    ).tag(config=True)

    response_address = Text(
        "",
        help="""The address at which launchers on the nodes reach this server: an address of this
        machine, or address:port. Empty: the address that leads to the ResourceManager, with any
        free port.""",
    ).tag(config=True)

    impersonation = Flag(
        False,
        help="""If true, the kernel runs as KERNEL_USERNAME (spark-submit --proxy-user). Hadoop must
        allow the server's user to do this. If false, it runs as the server's user.""",
    ).tag(config=True)

    def _make_placer(self) -> Placer:
        return EnginePlacer(self, YarnEngine)

    def engine(self, request: LaunchRequest | None) -> YarnEngine:
        """YARN for this request. Raises ConfigurationError."""
        spec: Any = self.kernel_spec
        environ = self._environment(request)
        return YarnEngine(
            self._manager(environ),
            environ,
            resource_dir=str(spec.resource_dir),
            language=spec.language or "",
            response_address=self.response_address,
        )

    def _environment(self, request: LaunchRequest | None) -> dict[str, str]:
        """The submitting program's environment: this process's, overridden by the kernelspec's."""
        spec: Any = self.kernel_spec
        own = request.env if request is not None else spec.env
        given = request.request_env if request is not None else {"KERNEL_USERNAME": self.username}
        environ = kernel_environment(os.environ, own, given)
        user = given.get("KERNEL_USERNAME", "")
        if self.impersonation and user:
            environ["RP_PROXY_USER"] = user
        return environ

    def _manager(self, environ: Mapping[str, str]) -> ResourceManager:
        given = [e for e in (self.yarn_endpoint, self.alt_yarn_endpoint) if e]
        directory = configuration_directory(environ)
        if not given and not directory:
            raise ConfigurationError(
                "the address of YARN is not known: set yarn_endpoint, or set HADOOP_CONF_DIR\n"
                "in the kernelspec's env to the directory of yarn-site.xml on this machine"
            )
        endpoints = given or endpoints_of(directory)
        return ResourceManager(
            endpoints,
            environ,
            secure=self.yarn_endpoint_security_enabled,
            user=environ.get("RP_PROXY_USER", ""),
        )
