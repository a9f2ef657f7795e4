"""The hosts that the installed kernelspecs and the configuration name."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from traitlets import TraitError
from traitlets.config import Config

from ...errors import ConfigurationError
from ...options.config import RemoteProvisionerConfigMixin
from ...options.installed_specs import InstalledSpec, installed_specs
from ...placement.host_address import HostAddress
from ...placement.inventory import HostSpec, Inventory, merged

#: How long a reading is used before the configuration is read again.
_FRESH_SECONDS = 5.0
#: Stands for a kernelspec's name where no kernelspec names hosts.
_GENERAL = "option remote_hosts"


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

    @functools.cached_property
    def by_address(self) -> Mapping[HostAddress, list[ConfiguredHost]]:
        """A host may have several names."""
        found: dict[HostAddress, list[ConfiguredHost]] = {}
        for host in self.hosts.values():
            found.setdefault(host.spec.address, []).append(host)
        return found


class Configuration:
    """Reads the configuration on demand, at most every few seconds, never on the event loop."""

    def __init__(self, kernel_spec_manager: Any, config: Config) -> None:
        self._manager = kernel_spec_manager
        self._config = config
        #: The last reading, which may be in progress, and when it began.
        self._reading: asyncio.Future[Configured] | None = None
        self._began = 0.0
        # What was read last, for the threads that read. A thousand hosts take a while, so only
        # what has changed is read again.
        self._lock = threading.Lock()
        self._specs: list[InstalledSpec] | None = None
        self._options: dict[str, RemoteProvisionerConfigMixin] = {}
        self._inventories: dict[str, Inventory] = {}
        self._known = Configured()

    def forget(self) -> None:
        """Read it again when it is needed next. A reading in progress may be too old."""
        self._reading = None

    async def read(self) -> Configured:
        """The hosts by their names in the configuration, in its order."""
        now, reading = time.monotonic(), self._reading
        if reading is None or (reading.done() and now - self._began > _FRESH_SECONDS):
            self._began = now
            reading = self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))
        return await asyncio.shield(reading)

    def _read(self) -> Configured:
        with self._lock:
            specs = installed_specs(self._manager)
            problems: dict[str, str] = {}
            if specs != self._specs or self._known.problems:
                self._specs, problems = specs, self._read_options(specs)
            inventories: dict[str, Inventory] = {}
            for name, options in self._options.items():
                try:
                    inventories[name] = options.inventory()  # its file may have changed
                except ConfigurationError as error:
                    problems[name] = error.message
            if problems != self._known.problems or not _same(inventories, self._inventories):
                self._inventories = inventories
                self._known = Configured(self._hosts(inventories), problems)
            return self._known

    def _read_options(self, specs: Sequence[InstalledSpec]) -> dict[str, str]:
        """Returns the problems."""
        problems: dict[str, str] = {}
        self._options = {}
        for installed in specs:
            try:
                options = installed.configured(self._config)
            except ConfigurationError as error:
                problems[installed.name] = error.message
                continue
            if isinstance(options, RemoteProvisionerConfigMixin):  # else an engine chooses nodes
                self._options[installed.name] = options
        if not self._options:
            self._options = self._general_options()
        return problems

    def _hosts(self, inventories: Mapping[str, Inventory]) -> dict[str, ConfiguredHost]:
        found: dict[str, ConfiguredHost] = {}
        for name, inventory in inventories.items():
            kernelspecs = (name,) if name != _GENERAL else ()
            for listed in inventory:
                spec, earlier = self._options[name].completed(listed), found.get(listed.name)
                if earlier is None:
                    found[listed.name] = ConfiguredHost(spec, kernelspecs, listed)
                    continue
                found[listed.name] = ConfiguredHost(
                    merged(earlier.spec, spec),
                    (*earlier.kernelspecs, *kernelspecs),
                    merged(earlier.listed or earlier.spec, listed),
                )
        return found

    def _general_options(self) -> dict[str, RemoteProvisionerConfigMixin]:
        """Those of the configuration file or the environment, if one of them names any hosts."""
        given = self._config.get("RemoteProvisionerConfigMixin", {})
        if "remote_hosts" not in given and "RP_REMOTE_HOSTS" not in os.environ:
            return {}
        try:
            return {_GENERAL: RemoteProvisionerConfigMixin(config=self._config)}
        except (TraitError, ConfigurationError):
            return {}


def _same(one: Mapping[str, Inventory], other: Mapping[str, Inventory]) -> bool:
    """Whether the inventories are the same objects, which they are as long as nothing changes."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)
