"""The hosts named in kernelspecs, the configuration file or the environment."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from traitlets import TraitError

from ..errors import ConfigurationError
from ..options.config import CommonOptions, RemoteProvisionerConfigMixin
from ..options.installed_specs import installed_specs
from ..options.kinds import readable
from ..placement.host_address import HostAddress
from ..placement.inventory import HostSpec
from .command import Command
from .kernelspecs import kernelspec_manager


@dataclass(frozen=True)
class ConfiguredHost:
    """A host with its configuration, or the reason why it is unusable.

    `kernelspecs` are the kernelspecs that name it.
    """

    host: HostSpec
    kernelspecs: tuple[str, ...] = ()
    error: str = ""
    #: Without what the kernelspec says of its kernels.
    listed: HostSpec | None = None


def configured_hosts(command: Command, names: Sequence[str]) -> list[ConfiguredHost]:
    """The named hosts, or all configured hosts, once for each kernelspec.

    Raises ConfigurationError if the configuration file or the environment is invalid.
    """
    of_kernelspecs = _of_kernelspecs(command)
    if not names:
        if of_kernelspecs:
            return of_kernelspecs
        options = general_options(command)
        return [ConfiguredHost(options.completed(spec)) for spec in options.inventory()]
    chosen = []
    for name in dict.fromkeys(names):
        known = [place for place in of_kernelspecs if place.host.name == name and not place.error]
        chosen += known or [_by_general_options(command, name)]
    return chosen


def _of_kernelspecs(command: Command) -> list[ConfiguredHost]:
    found = []
    for spec in installed_specs(kernelspec_manager(command)):
        try:
            options = spec.configured(command.config)
        except ConfigurationError as error:
            found.append(_unusable(f"(hosts of {spec.name})", error, (spec.name,)))
            continue
        if not isinstance(options, RemoteProvisionerConfigMixin):
            continue  # an engine chooses its nodes
        found += [
            ConfiguredHost(options.completed(host), (spec.name,), listed=host)
            for host in options.inventory()
        ]
    return found


def engine_kernelspecs(command: Command) -> dict[str, CommonOptions]:
    """The options of the usable kernelspecs whose kernels an engine places, by name."""
    found = {}
    for spec in installed_specs(kernelspec_manager(command)):
        with contextlib.suppress(ConfigurationError):
            options = spec.configured(command.config)
            if not isinstance(options, RemoteProvisionerConfigMixin):
                found[spec.name] = options
    return found


def _by_general_options(command: Command, name: str) -> ConfiguredHost:
    options = general_options(command)
    try:
        return ConfiguredHost(options.host_spec(name))
    except ConfigurationError as error:
        return _unusable(name, error)


def _unusable(
    name: str, error: ConfigurationError, kernelspecs: tuple[str, ...] = ()
) -> ConfiguredHost:
    return ConfiguredHost(HostSpec(name, HostAddress("")), kernelspecs, error.message)


def general_options(command: Command) -> RemoteProvisionerConfigMixin:
    """The options of the configuration file and the environment."""
    try:
        options = RemoteProvisionerConfigMixin(config=command.config)
        options.check_options()
    except TraitError as error:
        raise ConfigurationError(readable(error)) from None
    return options
