"""The hosts that the installed kernelspecs and the configuration name."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any

from traitlets import TraitError
from traitlets.config import Config

from ...errors import ConfigurationError
from ...options.config import RemoteProvisionerConfigMixin
from ...options.installed_specs import InstalledSpec, installed_specs
from ...placement.inventory import HostSpec, merged

#: How long a reading is used before the configuration is read again.
_FRESH_SECONDS = 5.0


@dataclass(frozen=True)
class ConfiguredHost:
    """A host, and the kernelspecs that name it. `listed`: without what concerns their kernels."""

    spec: HostSpec
    kernelspecs: tuple[str, ...]
    listed: HostSpec | None = None


@dataclass(frozen=True)
class Configured:
    """The configuration at one moment. `problems`: by kernelspec, why its hosts are unknown."""

    hosts: dict[str, ConfiguredHost] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class Configuration:
    """Reads the configuration on demand, at most every few seconds, never on the event loop."""

    def __init__(self, kernel_spec_manager: Any, config: Config) -> None:
        self._manager = kernel_spec_manager
        self._config = config
        self._read_at = float("-inf")
        self._known = Configured()
        #: The kernelspecs that `_known` comes from.
        self._specs: list[InstalledSpec] | None = None
        self._reading: asyncio.Future[Configured] | None = None

    def forget(self) -> None:
        """Read it again when it is needed next."""
        self._read_at = float("-inf")

    async def read(self) -> Configured:
        """The hosts by their names in the configuration, in its order."""
        if time.monotonic() - self._read_at > _FRESH_SECONDS and self._reading is None:
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))
        if self._reading is not None:
            reading = self._reading
            self._known = await asyncio.shield(reading)
            if self._reading is reading:
                self._reading, self._read_at = None, time.monotonic()
        return self._known

    def _read(self) -> Configured:
        specs = installed_specs(self._manager)
        if specs == self._specs:  # a thousand hosts take a while to read
            return self._known
        self._specs = specs
        found: dict[str, HostSpec] = {}
        listed: dict[str, HostSpec] = {}
        named_by: dict[str, list[str]] = {}
        problems: dict[str, str] = {}
        for installed in specs:
            try:
                options = installed.configured(self._config)
            except ConfigurationError as error:
                problems[installed.name] = error.message
                continue
            if not isinstance(options, RemoteProvisionerConfigMixin):
                continue  # an engine chooses the nodes of its kernels
            for spec in options.inventory():
                earlier = listed.get(spec.name)
                listed[spec.name] = spec if earlier is None else merged(earlier, spec)
                spec = options.completed(spec)  # noqa: PLW2901
                earlier = found.get(spec.name)
                found[spec.name] = spec if earlier is None else merged(earlier, spec)
                named_by.setdefault(spec.name, []).append(installed.name)
        if not found:
            found = self._generally_configured()
        hosts = {
            name: ConfiguredHost(spec, tuple(named_by.get(name, ())), listed.get(name))
            for name, spec in found.items()
        }
        return Configured(hosts, problems)

    def _generally_configured(self) -> dict[str, HostSpec]:
        """The hosts of the configuration file or the environment, if one of them names any."""
        given = self._config.get("RemoteProvisionerConfigMixin", {})
        if "remote_hosts" not in given and "RP_REMOTE_HOSTS" not in os.environ:
            return {}
        try:
            options = RemoteProvisionerConfigMixin(config=self._config)
            return {spec.name: options.completed(spec) for spec in options.inventory()}
        except (TraitError, ConfigurationError):
            return {}
