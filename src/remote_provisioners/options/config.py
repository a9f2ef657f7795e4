"""Every option: its trait, default, environment variable and help in one declaration.

Precedence: the kernelspec's ``config`` stanza, then the configuration file and command line, then
``RP_<OPTION>`` in the environment, then the default.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any

from traitlets import Dict, TraitError, Unicode, Union
from traitlets.config import Config, Configurable

from ..errors import ConfigurationError, UnauthorizedError
from ..placement.host_address import HostAddress, parse_address
from ..placement.inventory import (
    HostSpec,
    Inventory,
    check_modules,
    for_user,
    read_inventory,
    spec_for_user,
)
from ..placement.policies import load_balancer
from ..placement.way_in import (
    DEFAULT_RUN_AS_COMMAND,
    WayOptions,
    check_connect,
    check_run_as,
    check_run_as_command,
)
from ..protocol.conventions import LEASE_SECONDS, OUTPUT_DISK, OUTPUT_MEMORY
from ..user import user_name
from .kinds import (
    CommandWords,
    Count,
    Flag,
    Mebibytes,
    Names,
    NameSet,
    Seconds,
    Text,
    TextByHost,
    Way,
)
from .launch_request import parse_port_range


class CommonOptions(Configurable):
    """The options of every provisioner of this package."""

    #: Whose kernels these are (KERNEL_USERNAME); empty: the user of this process.
    username = ""

    authorized_users = NameSet(
        trait=Unicode(),
        help="""The user names (KERNEL_USERNAME, else the server's user) that may start kernels;
        empty: all but the unauthorized ones. Others get an HTTP 403.""",
    ).tag(config=True)

    unauthorized_users = NameSet(
        trait=Unicode(),
        default_value={"root"},
        help="""The user names that may not be given as KERNEL_USERNAME; takes precedence over
        authorized_users. A request without KERNEL_USERNAME is not compared with it.""",
    ).tag(config=True)

    port_range = Text(
        "0..0",
        help="""The ports, lower..upper, that kernels on a host bind on its loopback interface;
        at least 1000 of them; 0..0 is any. Kernels on unix sockets (ipykernel) use none.""",
    ).tag(config=True)

    launch_timeout = Seconds(
        30.0,
        help="""Seconds from the start request until the kernel's ports are open; then it is
        ended. A start request's KERNEL_LAUNCH_TIMEOUT takes precedence.""",
    ).tag(config=True)

    network_grace = Seconds(
        600.0,
        help="""Seconds for which a kernel counts as alive while its host cannot be reached.""",
    ).tag(config=True)

    output_memory = Mebibytes(
        OUTPUT_MEMORY / 1024**2,
        help="""MiB of a kernel's output that its host keeps in memory while nobody takes it: no
        server, none that can be reached, or one that is slower than the kernel.""",
    ).tag(config=True)

    output_disk = Mebibytes(
        OUTPUT_DISK / 1024**2,
        help="""MiB of such output that its host keeps in the kernel's directory (below TMPDIR or
        /tmp) once output_memory is full. Then the oldest is dropped, and a line in the output says
        how much.""",
    ).tag(config=True)

    lease = Seconds(
        LEASE_SECONDS,
        help="""Seconds for which a kernel lives on without its server: after the server was
        killed, or while it cannot reach the host. Then the host ends it. 4 days, a long weekend,
        by default.""",
    ).tag(config=True)

    client_lease = Seconds(
        60.0,
        help="""The same for kernels of programs that are no Jupyter server: papermill, nbclient,
        jupyter console, a script. Nobody comes back for those of a program that was killed. With
        leave_kernels_running they have the lease.""",
    ).tag(config=True)

    left_idle_timeout = Seconds(
        0.0,
        help="""Seconds that a kernel may idle on its host while its server is away: then the host
        ends it, before its lease is over. Idle is one whose processes use less than 2 % of a core.
        0: as long as its lease.""",
    ).tag(config=True)

    leave_kernels_running = Flag(
        False,
        help="""Whether kernels stay when their server is stopped on purpose (a signal, the
        Shut Down button), to be found again by the next one within their lease. False: they are
        ended, as Jupyter does. One that is shut down by itself is always ended.""",
    ).tag(config=True)

    @property
    def output_bounds(self) -> tuple[int, int]:
        """Bytes of output in memory, on disk."""
        return int(self.output_memory * 1024**2), int(self.output_disk * 1024**2)

    def check_options(self) -> None:
        """Refuse every value that cannot be used, wherever it was given.

        Raises ConfigurationError. (traitlets' own validators pass by the defaults, and the
        environment is one of those.)
        """
        try:
            self._check_options()
        except TraitError as error:
            raise ConfigurationError(str(error)) from None

    def _check_options(self) -> None:
        parse_port_range(self.port_range)
        for name in ("launch_timeout", "network_grace", "lease", "client_lease"):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):
                raise ConfigurationError(
                    f"{name} is {seconds!r}, must be a positive number of seconds"
                )
        for name in ("output_memory", "output_disk"):
            mebibytes = getattr(self, name)
            if not 0 <= mebibytes < float("inf"):
                raise ConfigurationError(f"{name} is {mebibytes!r}, must be a number of MiB")
        if not 0 <= self.left_idle_timeout < float("inf"):
            raise ConfigurationError(
                f"left_idle_timeout is {self.left_idle_timeout!r}, must be a number of seconds"
            )
        for name in self.class_trait_names(config=True):
            getattr(self, name)

    def check_request(self, request_env: Mapping[str, str]) -> None:
        """Refuse what a request to a server or a gateway may not ask for."""

    def _load_config(self, cfg: Any, section_names: Any = None, traits: Any = None) -> None:
        """One section of a configuration file has the options of all provisioners.

        A provisioner without a list of hosts takes from it what it has.
        """
        section = RemoteProvisionerConfigMixin.__name__
        if section not in self.section_names() and section in cfg:
            known = {n: v for n, v in cfg[section].items() if self.has_trait(n)}
            own = Config({CommonOptions.__name__: known})
            own.merge(cfg)
            cfg = own
        super()._load_config(cfg, section_names, traits)


class RemoteProvisionerConfigMixin(CommonOptions):
    """The options of provisioners that have a list of hosts, and the name of the section of all."""

    remote_hosts = Names(
        trait=Union([Unicode(), Dict()]),
        default_value=["localhost"],
        help="""The hosts that kernels are started on: host, user@host, user@host:port, an alias
        of ~/.ssh/config, an IP address, or localhost (this machine, without SSH). A list or
        comma-separated text. An entry may be a table with properties: {"host": "gpu1",
        "weight": 2, "capacity": 8, "labels": ["a100"], "gpus": 4, "python": "...",
        "environment_hook": "...", "preload": ["numpy"]}. A path
        stands for the list in that TOML or JSON file.""",
    ).tag(config=True)

    unlisted_pins = Flag(
        False,
        help="""Whether a request to a server or a gateway may name any host in its
        KERNEL_REMOTE_HOST. False: those of remote_hosts only. The process's own environment may
        always name any.""",
    ).tag(config=True)

    connect = Way(
        default_value="",
        help="""How hosts are reached: asyncssh (within this process; the default), openssh (the
        ssh program, with all that ~/.ssh/config means to it), or a command as a list of words
        that runs others on the host, such as ["docker", "exec", "-i", "{host}"]. {host}, {user},
        {port} and {username} (KERNEL_USERNAME) are replaced. A host of remote_hosts may have its
        own.""",
    ).tag(config=True)

    run_as = Text(
        "",
        help="""The user of the host that kernels run as, where that is not who logs in; {username}
        stands for the request's KERNEL_USERNAME. Empty: who logs in. A host of remote_hosts may
        have its own.""",
    ).tag(config=True)

    run_as_command = CommandWords(
        trait=Unicode(),
        default_value=list(DEFAULT_RUN_AS_COMMAND),
        help="""The words that run others as the user of `run_as`, which {user} stands for.""",
    ).tag(config=True)

    strict_host_keys = Flag(
        False,
        help="""Whether host keys are checked by the ssh program even where ~/.ssh/config says that
        they need not be. asyncssh checks them always.""",
    ).tag(config=True)

    load_balancing_algorithm = Text(
        "round-robin",
        help="""How the host of a kernel is chosen: round-robin (each in turn), least-connection
        (the one with the fewest kernels of this server), least-load (by what the hosts report:
        kernels of everybody, load, memory), fill (the first that has room), or what another
        package has installed. A start request's KERNEL_REMOTE_HOST by-passes it.""",
    ).tag(config=True)

    python = TextByHost(
        default_value="",
        help="""The interpreter on the hosts that `python` in a kernelspec's argv stands for and
        that runs the agent (3.8 or later): a text for all, or a table by host. Empty: for
        kernels the first python3 or python on the PATH that the environment hook leaves, for the
        agent python3 of a login; on localhost the server's own.""",
    ).tag(config=True)

    environment_hook = TextByHost(
        default_value="",
        help="""Shell text of the operator that sets up the environment of kernels on the hosts,
        such as `module load python` or `source /opt/venv/bin/activate`: a text for all, or a
        table by host. It is run by bash once, when a host gets its first kernel, and what it
        exports is given to every kernel there.""",
    ).tag(config=True)

    preload = Names(
        trait=Unicode(),
        help="""Modules that Python kernels on the hosts find imported already, such as numpy and
        pandas: an import of them then takes no time, and their memory is shared by the kernels.
        One that starts threads when it is imported is left out; the agent's log says so.""",
    ).tag(config=True)

    warm = Count(
        0,
        help="""How many kernels of a kernelspec (of Python, on unix sockets) a host that has run
        one keeps started, to be had at once; each takes the memory of an idle kernel. Another is
        made ready when no kernel has been started for two seconds.""",
    ).tag(config=True)

    def _check_options(self) -> None:
        load_balancer(self.load_balancing_algorithm)
        self.inventory()
        super()._check_options()
        check_modules("preload", self.preload)
        if self.warm < 0:
            raise ConfigurationError(f"warm is {self.warm}, must be a number of kernels")

    def check_request(self, request_env: Mapping[str, str]) -> None:
        """Refuse a host that the request names and nobody has configured. UnauthorizedError."""
        pin = request_env.get("KERNEL_REMOTE_HOST", "").strip()
        own = os.environ.get("KERNEL_REMOTE_HOST", "").strip()
        names = [spec.name for spec in self.inventory()]
        if not pin or pin == own or pin in names or self.unlisted_pins:
            return
        parse_address(pin)  # one that cannot be read is said to be so
        raise UnauthorizedError(
            f"KERNEL_REMOTE_HOST: {pin!r} is not one of the configured hosts ({', '.join(names)})\n"
            "To let requests name any host: unlisted_pins = True"
        )

    def inventory(self) -> Inventory:
        """The hosts with their own properties. Raises ConfigurationError."""
        return for_user(read_inventory(self.remote_hosts), self._way_options(), self._username())

    def _username(self) -> str:
        return self.username or user_name()

    def _way_options(self) -> WayOptions:
        return WayOptions(
            check_connect("connect", self.connect),
            check_run_as("run_as", self.run_as),
            check_run_as_command("run_as_command", self.run_as_command),
            self.strict_host_keys,
        )

    def host_spec(self, name: str) -> HostSpec:
        """The host that is written `name`, with all that is configured for it.

        It need not be in the inventory. Raises ConfigurationError when it cannot be read.
        """
        name = name.strip()
        for spec in self.inventory():
            if spec.name == name:
                return self.completed(spec)
        spec = HostSpec(name, parse_address(name))
        return self.completed(spec_for_user(spec, self._way_options(), self._username()))

    def completed(self, spec: HostSpec) -> HostSpec:
        """A host of the inventory with the options that are for all hosts."""
        return dataclasses.replace(
            spec,
            python=spec.python
            or _for_host(self.python, spec.name)
            or _default_python(spec.address),
            hook=spec.hook or _for_host(self.environment_hook, spec.name),
            preload=spec.preload or tuple(self.preload),
        )


def option_names() -> list[str]:
    """Every option, sorted."""
    return sorted(RemoteProvisionerConfigMixin.class_trait_names(config=True))


def _for_host(option: Any, name: str) -> str:
    return str(option.get(name, "")) if isinstance(option, dict) else str(option)


def _default_python(address: HostAddress) -> str:
    return sys.executable if address.is_local else ""
