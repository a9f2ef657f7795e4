"""Every option: its trait, default, environment variable and help in one declaration.

Precedence: the kernelspec's ``config`` stanza, then the configuration file and command line, then
``RP_<OPTION>`` in the environment, then the default.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import sys
from typing import Any

from traitlets import Bool, Dict, Float, Int, List, Set, TraitError, TraitType, Unicode, Union
from traitlets.config import Config, Configurable

from ..errors import ConfigurationError
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
from .launch_request import parse_port_range


class _FromEnvironment(TraitType[Any, Any]):
    """A trait whose default is read from ``RP_<NAME>``, where that is set."""

    def default(self, obj: Any = None) -> Any:
        text = os.environ.get(self.variable)
        if text is None or obj is None:
            return super().default(obj)
        try:
            return self.from_string(text)
        except (TraitError, ValueError) as error:
            raise ConfigurationError(f"{self.variable}={text!r}: {error}") from None

    @property
    def variable(self) -> str:
        return f"RP_{str(self.name).upper()}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


class Text(_FromEnvironment, Unicode[str, Any]):
    """Text."""


class Seconds(_FromEnvironment, Float[float, Any]):
    """A number of seconds."""


class Count(_FromEnvironment, Int[int, Any]):
    """A number of things."""


class Mebibytes(_FromEnvironment, Float[float, Any]):
    """A number of MiB."""


class Flag(_FromEnvironment, Bool[bool, Any]):
    """Yes or no: ``true``, ``false``, ``1``, ``0``."""


class Names(_FromEnvironment, List[Any]):
    """A list, or comma-separated text."""

    def set(self, obj: Any, value: Any) -> None:
        super().set(obj, _words(value) if isinstance(value, str) else value)

    def from_string(self, s: str) -> Any:
        return _words(s)

    def from_string_list(self, s_list: list[str]) -> Any:
        return [word for text in s_list for word in _words(text)]


class NameSet(_FromEnvironment, Set):
    """A set, a list, or comma-separated text."""

    def set(self, obj: Any, value: Any) -> None:
        super().set(obj, _words(value) if isinstance(value, str) else value)

    def from_string(self, s: str) -> Any:
        return set(_words(s))

    def from_string_list(self, s_list: list[str]) -> Any:
        return {word for text in s_list for word in _words(text)}


class TextByHost(_FromEnvironment, Union):
    """A text for all hosts, or a table of texts by host as it is written in remote_hosts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([Unicode(), Dict(value_trait=Unicode(), key_trait=Unicode())], **kwargs)

    def from_string(self, s: str) -> Any:
        return s


class Way(_FromEnvironment, Union):
    """A word, or a command as a list of words (in the environment: a list in JSON)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([Unicode(), List(trait=Unicode())], **kwargs)

    def from_string(self, s: str) -> Any:
        return s


class CommandWords(_FromEnvironment, List[Any]):
    """The words of a command (in the environment: a list in JSON)."""

    def from_string(self, s: str) -> Any:
        words = json.loads(s)
        if not isinstance(words, list):
            raise ValueError("must be a list of words in JSON")
        return words


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
        for name in ("launch_timeout", "network_grace", "lease"):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):
                raise ConfigurationError(
                    f"{name} is {seconds!r}, must be a positive number of seconds"
                )
        for name in ("output_memory", "output_disk"):
            mebibytes = getattr(self, name)
            if not 0 <= mebibytes < float("inf"):
                raise ConfigurationError(f"{name} is {mebibytes!r}, must be a number of MiB")
        for name in self.class_trait_names(config=True):
            getattr(self, name)

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

    def inventory(self) -> Inventory:
        """The hosts with their own properties. Raises ConfigurationError."""
        return for_user(read_inventory(self.remote_hosts), self._way_options(), self._username())

    def _username(self) -> str:
        return self.username or getpass.getuser()

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
