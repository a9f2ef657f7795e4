"""A host as a kernelspec's `remote_hosts` lists it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from traitlets.config import Config

from ..options.config import RemoteProvisionerConfigMixin
from ..placement.inventory import HostSpec
from ..placement.way_in import COMMAND

Entry = str | dict[str, Any]


def for_environments(listed: HostSpec, completed: HostSpec, config: Config) -> HostSpec:
    """The host for scans, and for the kernels of its environments.

    `listed` has no options of the kernelspec that names the host, `completed` has them. That
    kernelspec's hook and preload are only for its own kernels. Its interpreter is used, because it
    may be the only one that can run the agent there.
    """
    spec = RemoteProvisionerConfigMixin(config=config).completed(listed)
    return replace(spec, python=completed.python)


def host_entry(spec: HostSpec, config: Config) -> Entry:
    """The host's entry for a new kernelspec, with the host's properties.

    It leaves out the properties that `config` sets for all hosts. Raises ConfigurationError.
    """
    options = RemoteProvisionerConfigMixin(config=config, remote_hosts=[spec.name])
    bare = options.host_spec(spec.name)
    properties: dict[str, Any] = {}
    for name, attribute in (
        ("weight", "weight"),
        ("capacity", "capacity"),
        ("labels", "labels"),
        ("gpus", "gpus"),
        ("preload", "preload"),
        ("python", "python"),
        ("environment_hook", "hook"),
    ):
        value = getattr(spec, attribute)
        if value != getattr(bare, attribute):
            properties[name] = sorted(value) if isinstance(value, frozenset) else value
    properties |= _way_in(spec, bare)
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in properties.items()}
    return {"host": spec.name, **listed} if listed else spec.name


def _way_in(spec: HostSpec, bare: HostSpec) -> dict[str, Any]:
    """The way in. The kernelspec that names the host may set it for all of its hosts."""
    way, default = spec.address.way, bare.address.way
    found: dict[str, Any] = {}
    if spec.connect or (way.kind, way.command) != (default.kind, default.command):
        found["connect"] = spec.connect or (way.command if way.kind == COMMAND else way.kind)
    if spec.run_as or way.run_as != default.run_as:
        found["run_as"] = spec.run_as or way.run_as
    return found


def name_of(entry: Entry) -> str:
    return str(entry["host"]) if isinstance(entry, dict) else entry
