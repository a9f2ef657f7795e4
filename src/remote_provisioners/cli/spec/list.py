"""``jupyter remote spec list``."""

from __future__ import annotations

import json
from typing import Any

from traitlets import Bool

from ...environments.host_entry import name_of
from ...errors import ConfigurationError
from ...options.config import RemoteProvisionerConfigMixin
from ...options.installed_specs import InstalledSpec, installed_specs
from ..command import Command
from ..kernelspecs import kernelspec_manager
from ..table import columns


class SpecListApp(Command):
    name = "jupyter-remote-spec-list"
    description = """List the installed kernelspecs whose kernels run on hosts.

    HOSTS and ALGORITHM are the values that a kernel would get: the kernelspec's own, otherwise
    those of the configuration file or the environment.
    """
    examples = """
    jupyter remote spec list
    jupyter remote spec list --json
    """
    flags = Command.flags | {
        "json": ({"SpecListApp": {"json_output": True}}, "Print JSON."),
    }
    reads_hosting_config = True

    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def run(self) -> int:
        self.words(0, "no arguments")
        specs = [self._described(spec) for spec in installed_specs(kernelspec_manager(self))]
        if self.json_output:
            print(json.dumps({"kernelspecs": specs}, indent=2))
        elif specs:
            header = ("NAME", "DISPLAY NAME", "HOSTS", "ALGORITHM", "DIRECTORY")
            print("\n".join(columns([header, *(_row(spec) for spec in specs)])))
        else:
            print("None installed. To install one: jupyter remote spec install")
        return 0

    def _described(self, spec: InstalledSpec) -> dict[str, Any]:
        described: dict[str, Any] = {
            "name": spec.name,
            "display_name": spec.display_name,
            "provisioner": spec.provisioner,
            "directory": spec.directory,
        }
        try:
            options = spec.configured(self.config)
        except ConfigurationError as error:
            return {**described, "error": str(error)}
        if not isinstance(options, RemoteProvisionerConfigMixin):  # an engine chooses the node
            return {**described, "remote_hosts": [], "load_balancing_algorithm": ""}
        return {
            **described,
            "remote_hosts": list(options.remote_hosts),
            "load_balancing_algorithm": options.load_balancing_algorithm,
        }


def _row(spec: dict[str, Any]) -> tuple[str, ...]:
    if "error" in spec:
        hosts, algorithm = f"invalid: {spec['error']}", "-"
    else:
        hosts = ",".join(map(name_of, spec["remote_hosts"])) or "-"
        algorithm = spec["load_balancing_algorithm"] or "-"
    return spec["name"], spec["display_name"], hosts, algorithm, spec["directory"]
