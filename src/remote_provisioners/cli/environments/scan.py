"""``jupyter remote scan``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from traitlets import Bool

from ...environments.environment import Environment
from ...environments.installed import kernelspecs_here
from ...environments.survey import HostEnvironments
from ...options.kinds import separated
from ...placement.inventory import HostSpec
from ..command import FAILED, Command, Text
from ..kernelspecs import kernelspec_manager
from ..table import columns
from .asking import environments_as_found, hosts_named, in_order, with_hosts

_HEADER = ("NAME", "TITLE", "KERNEL", "HERE", "WHERE")
#: The kernelspecs here, by host and key of the environment.
Here = Mapping[tuple[str, str], str]


class ScanApp(Command):
    name = "jupyter-remote-scan"
    description = """List the environments of hosts that can run kernels.

    Usage: jupyter remote scan [HOST...] [--directory=DIR,...] [--json]

    Without a HOST, it asks all hosts in the installed kernelspecs, the configuration file and
    RP_REMOTE_HOSTS. It prints the environments of each host as soon as it answers.

    It lists kernelspecs, conda and mamba environments, venvs (also those of uv, poetry and pipenv),
    the Pythons of pyenv and PATH, modules, R and Julia. If an environment has no package for
    kernels, it prints the command that installs the package. The column HERE shows the kernelspec
    that `jupyter remote add` has made. The agent reads files, and stops after 1.5 seconds. Apart
    from the configured environment hook, it runs no program of the host.

    It finds venvs in the usual places: ~/.virtualenvs, ~/.venvs, the directories of poetry and
    pipenv, and .venv, venv or env in a project up to two levels below the home directory. For
    other places, use --directory.

    Exit codes: 0 all hosts have answered, 1 some have not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote scan gpu1
    jupyter remote scan gpu1 me@gpu2:2222 --json
    jupyter remote scan gpu1 --directory=/srv/envs,/projects/torch
    """
    aliases = Command.aliases | {"directory": "ScanApp.directory"}
    flags = Command.flags | {"json": ({"ScanApp": {"json_output": True}}, "Print JSON.")}
    reads_hosting_config = True

    directory = Text(help="More directories on the hosts to look in, comma-separated.").tag(
        config=True
    )
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def run(self) -> int:
        specs = hosts_named(self, self.words(None, "hosts"))
        hosts = with_hosts(self._scan(specs))
        return FAILED if any(host.error for host in hosts) else 0

    async def _scan(self, specs: Sequence[HostSpec]) -> list[HostEnvironments]:
        """Print the environments of each host as soon as it answers."""
        here = kernelspecs_here(kernelspec_manager(self))
        hosts: list[HostEnvironments] = []
        async for host in environments_as_found(specs, separated(self.directory)):
            if not self.json_output:
                print(
                    "\n".join(["", *_lines(host, here)] if hosts else _lines(host, here)),
                    flush=True,
                )
            hosts.append(host)
        if self.json_output:
            models = [_as_json(host, here) for host in in_order(hosts, specs)]
            print(json.dumps({"hosts": models}, indent=2))
        return hosts


def _as_json(host: HostEnvironments, here: Here) -> dict[str, Any]:
    return {
        "host": host.host.name,
        "error": host.error.message if host.error else "",
        "seconds": round(host.seconds, 3),
        "unfinished": list(host.unfinished),
        "environments": [
            {**each.as_json(), "kernelspec": here.get((host.host.name, each.key))}
            for each in host.environments
        ],
    }


def _lines(host: HostEnvironments, here: Here) -> list[str]:
    name = host.host.name
    if host.error:
        return [f"{name}: {host.error.message}"]
    lines = [f"{name}: {_count(host)}"]
    rows = [_row(each, here.get((name, each.key), "-")) for each in host.environments]
    table = columns([_HEADER, *rows]) if rows else []
    for line, environment in zip(table, (None, *host.environments), strict=bool(table)):
        lines.append(f"  {line}")
        if environment is not None and environment.missing:
            lines.append(f"    {environment.missing}")
        if environment is not None and environment.install:
            lines.append(f"    -> {environment.install}")
    lines += [f"  there was no time to look in {place}" for place in host.unfinished]
    if any((name, each.key) not in here for each in host.usable):
        lines.append(f"To use them here: jupyter remote add {name}")
    return lines


def _count(host: HostEnvironments) -> str:
    all_, usable = len(host.environments), len(host.usable)
    noun = "environment" if all_ == 1 else "environments"
    return f"{all_} {noun}, {usable} can run kernels ({1000 * host.seconds:.0f} ms)"


def _row(environment: Environment, here: str) -> tuple[str, ...]:
    kernel = environment.package
    if environment.package_version is not None:
        kernel = f"{kernel} {environment.package_version}"
    elif kernel:
        kernel = "-"
    if environment.kind == "kernelspec" and not kernel:
        kernel = "kernelspec" if environment.usable else "-"
    return environment.name, environment.title, kernel, here, environment.path
