"""Every option: its trait, default, environment variable and help in one declaration.

Precedence: the kernelspec's ``config`` stanza, then the configuration file and command line, then
``RP_<OPTION>`` in the environment, then the default.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

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
    readable,
)
from .launch_request import parse_port_range


class CommonOptions(Configurable):
    """The options of every provisioner of this package."""

    #: The owner of the kernels (KERNEL_USERNAME); empty: the user of this process.
    username = ""
    #: Packages that take long to import and that the first kernel needs.
    slow_imports: ClassVar[tuple[str, ...]] = ()

    authorized_users = NameSet(
        trait=Unicode(),
        help="""The user names that may start kernels. A request's name is its KERNEL_USERNAME,
        otherwise the server's user. Other names get an HTTP 403. If the list is empty, all users
        may start kernels except those in unauthorized_users.""",
    ).tag(config=True)

    unauthorized_users = NameSet(
        trait=Unicode(),
        default_value={"root"},
        help="""The user names that are refused as KERNEL_USERNAME, even if authorized_users
        contains them. A request without KERNEL_USERNAME is not checked against this list.""",
    ).tag(config=True)

    port_range = Text(
        "0..0",
        help="""The ports, lower..upper, that kernels may bind on a host's loopback interface. The
        range must span at least 1000 ports. 0..0 means any port. Kernels on unix sockets
        (ipykernel) need none of these ports.""",
    ).tag(config=True)

    launch_timeout = Seconds(
        30.0,
        help="""Seconds from the start request until the kernel's ports must be open. After that the
        kernel is ended and the start fails. KERNEL_LAUNCH_TIMEOUT in a start request takes
        precedence.""",
    ).tag(config=True)

    network_grace = Seconds(
        600.0,
        help="""Seconds for which a kernel counts as alive while its host cannot be reached.""",
    ).tag(config=True)

    output_memory = Mebibytes(
        OUTPUT_MEMORY / 1024**2,
        help="""MiB of a kernel's output that its host keeps in memory while no client takes it:
        because there is no server, the server cannot be reached, or a client is slower than the
        kernel.""",
    ).tag(config=True)

    output_disk = Mebibytes(
        OUTPUT_DISK / 1024**2,
        help="""MiB of such output that its host keeps on disk once output_memory is full, in the
        kernel's directory below TMPDIR or /tmp. Beyond that the host drops the oldest output, and a
        line in the output says how much is missing.""",
    ).tag(config=True)

    lease = Seconds(
        LEASE_SECONDS,
        help="""Seconds for which a kernel keeps running without its server, because the server was
        killed or cannot reach the host. Then the host ends the kernel. The default is 4 days, a
        long weekend.""",
    ).tag(config=True)

    client_lease = Seconds(
        60.0,
        help="""The lease of kernels of programs that are not a Jupyter server: papermill, nbclient,
        jupyter console, a script. If such a program is killed, nobody returns to its kernels. With
        leave_kernels_running, lease applies instead.""",
    ).tag(config=True)

    left_idle_timeout = Seconds(
        0.0,
        help="""Seconds that a kernel may be idle on its host while its server is away. Then the
        host ends it, even before its lease is over. A kernel is idle if its processes use less than
        2 % of a core. 0: no limit but the lease.""",
    ).tag(config=True)

    leave_kernels_running = Flag(
        False,
        help="""If true, kernels keep running when their server is stopped normally (a signal, the
        Shut Down button), and the next server can find them until their lease runs out. If false,
        they are ended, as Jupyter does. A kernel that a user shuts down is always ended.""",
    ).tag(config=True)

    @property
    def output_bounds(self) -> tuple[int, int]:
        """Bytes of output to keep in memory and on disk."""
        return int(self.output_memory * 1024**2), int(self.output_disk * 1024**2)

    def check_options(self) -> None:
        """Reject invalid values from every source. Raises ConfigurationError.

        traitlets' own validators skip defaults, and the environment provides defaults.
        """
        try:
            self._check_options()
        except TraitError as error:
            raise ConfigurationError(readable(error)) from None

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
        """Read the one section that holds the options of all provisioners.

        A provisioner without a list of hosts reads only the options that it has.
        """
        section = RemoteProvisionerConfigMixin.__name__
        if section not in self.section_names() and section in cfg:
            known = {n: v for n, v in cfg[section].items() if self.has_trait(n)}
            own = Config({CommonOptions.__name__: known})
            own.merge(cfg)
            cfg = own
        super()._load_config(cfg, section_names, traits)


class RemoteProvisionerConfigMixin(CommonOptions):
    """The options of provisioners with a list of hosts. Its name is the section for all options."""

    remote_hosts = Names(
        trait=Union([Unicode(), Dict()]),
        default_value=["localhost"],
        help="""The hosts that run kernels: host, user@host, user@host:port, an alias in
        ~/.ssh/config, an IP address, or localhost (this machine, without SSH). A list or
        comma-separated text. An entry may be a table with properties: {"host": "gpu1", "weight": 2,
        "capacity": 8, "labels": ["a100"], "gpus": 4}. It may also have the options python,
        environment_hook, preload, connect and run_as, for that host. The path of a TOML or JSON
        file stands for the list in that file.""",
    ).tag(config=True)

    unlisted_pins = Flag(
        False,
        help="""If true, a request to a server or a gateway may name any host in its
        KERNEL_REMOTE_HOST. If false, it may name only hosts in remote_hosts. The process's own
        environment may always name any host.""",
    ).tag(config=True)

    connect = Way(
        default_value="",
        help="""How to reach the hosts: asyncssh (a library in this process), openssh (the ssh
        program), or a command that runs other commands on the host, as a list of words, such as
        ["docker", "exec", "-i", "{host}"]. Empty: asyncssh, or openssh for a host whose
        ~/.ssh/config needs the ssh program (ControlPath, PKCS11Provider and others).
        {host}, {user}, {port} and {username} (KERNEL_USERNAME) are placeholders. A host in
        remote_hosts may override this option.""",
    ).tag(config=True)

    run_as = Text(
        "",
        help="""The user on the host that kernels run as, if it is not the user who logs in.
        {username} stands for the request's KERNEL_USERNAME. Empty: the user who logs in. A host in
        remote_hosts may override this option.""",
    ).tag(config=True)

    run_as_command = CommandWords(
        trait=Unicode(),
        default_value=list(DEFAULT_RUN_AS_COMMAND),
        help="""The command, as a list of words, that runs other commands as the user in run_as.
        {user} stands for that user.""",
    ).tag(config=True)

    strict_host_keys = Flag(
        False,
        help="""If true, the ssh program checks host keys with connect = "openssh" even if
        ~/.ssh/config disables the check. If connect is empty or asyncssh, host keys are always
        checked.""",
    ).tag(config=True)

    load_balancing_algorithm = Text(
        "round-robin",
        help="""How to choose the host of a kernel: round-robin (each host in turn),
        least-connection (the host with the fewest kernels), least-load (by what the hosts report:
        all users' kernels, load, memory), fill (the first host with room), or a policy that another
        package has installed. KERNEL_REMOTE_HOST in a start request names the host instead.""",
    ).tag(config=True)

    python = TextByHost(
        default_value="",
        help="""The interpreter of kernels on the hosts. It replaces the word `python` at the
        beginning of a kernelspec's argv: a text for all hosts, or a table by host. Empty: the first
        python3 or python on the PATH that the environment hook sets. On localhost, empty means the
        server's own interpreter. The agent runs on the login's python3, or on this interpreter if
        the login has no Python 3.8 or later.""",
    ).tag(config=True)

    environment_hook = TextByHost(
        default_value="",
        help="""Shell text that sets up the environment of kernels on the hosts, such as `module
        load python` or `source /opt/venv/bin/activate`: a text for all hosts, or a table by host.
        bash runs it once, when a host gets its first kernel. Every kernel on the host gets the
        variables that it exports.""",
    ).tag(config=True)

    preload = Names(
        trait=Unicode(),
        help="""Modules that Python kernels on the hosts find already imported, such as numpy and
        pandas. Importing them then takes no time, and the kernels share their memory. A module that
        starts threads on import is left out, and the agent's log says so.""",
    ).tag(config=True)

    warm = Count(
        0,
        help="""The number of kernels of a kernelspec that a host keeps started once it has run one,
        so that a start is immediate. The kernelspec must be for Python kernels on unix sockets.
        Each warm kernel takes the memory of an idle kernel. The agent starts another one when no
        kernel has been started for two seconds.""",
    ).tag(config=True)

    def _check_options(self) -> None:
        load_balancer(self.load_balancing_algorithm)
        self.inventory()
        super()._check_options()
        check_modules("preload", self.preload)
        if self.warm < 0:
            raise ConfigurationError(f"warm is {self.warm}, but must be 0 or more")

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
        """Without a request, the name in this process's environment: pages and commands then
        look where its kernels are."""
        return self.username or os.environ.get("KERNEL_USERNAME", "") or user_name()

    def _way_options(self) -> WayOptions:
        return WayOptions(
            check_connect("connect", self.connect),
            check_run_as("run_as", self.run_as),
            check_run_as_command("run_as_command", self.run_as_command),
            self.strict_host_keys,
        )

    def host_spec(self, name: str) -> HostSpec:
        """The host written as `name`, with everything that is configured for it.

        It need not be in the inventory. Raises ConfigurationError if it cannot be parsed.
        """
        name = name.strip()
        for spec in self.inventory():
            if spec.name == name:
                return self.completed(spec)
        spec = HostSpec(name, parse_address(name))
        return self.completed(spec_for_user(spec, self._way_options(), self._username()))

    def completed(self, spec: HostSpec) -> HostSpec:
        """Fill in a host's missing properties from the options for all hosts."""
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
