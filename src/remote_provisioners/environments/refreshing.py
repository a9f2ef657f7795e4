"""Update the kernelspecs here: new, changed and missing environments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from ..placement.inventory import HostSpec
from .adding import Adding, Result
from .environment import Environment
from .installed import InstalledEnvironment, installed_environments
from .seen import SeenEnvironments
from .survey import HostEnvironments, environments_on

Call = Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]


class Refreshing:
    """Refreshes the kernelspecs of hosts. `call` runs a coroutine in the I/O thread."""

    def __init__(self, manager: KernelSpecManager, adding: Adding, call: Call) -> None:
        self._adding = adding
        self._call = call
        self._installed = installed_environments(manager)
        self._seen = SeenEnvironments()

    @property
    def hosts(self) -> list[str]:
        """The hosts of all environments' kernelspecs."""
        return list(dict.fromkeys(host for each in self._installed for host in each.hosts))

    def directory(self, hosts: Sequence[str], default: Path) -> Path:
        """The directory of these hosts' earlier kernelspecs."""
        for host in hosts:
            seen = self._seen.of(host)
            if seen is not None and seen.directory:
                return Path(seen.directory)
        return default

    async def refresh(
        self,
        specs: Sequence[HostSpec],
        directory: Path,
        search: Sequence[str] = (),
        on_answer: Callable[[str], None] = lambda host: None,
    ) -> Result:
        """Ask these hosts and write the changes. `search`: look in these directories, too.

        Calls `on_answer` with the name of each host that has answered. Raises ConfigurationError.
        """

        async def ask(spec: HostSpec) -> HostEnvironments:
            places = [*search, *self._known_places(spec.name)]
            found: HostEnvironments = await self._call(environments_on(spec, places))
            on_answer(spec.name)
            return found

        asked = await asyncio.gather(*map(ask, specs))
        answered = [host for host in asked if host.error is None]
        chosen = [(host, self._chosen(host)) for host in answered]
        present = {
            host.host.name: {key for each in host.usable for key in each.keys}
            for host in answered
            if not host.unfinished  # otherwise a missing environment may be there
        }
        result = await self._adding.add(chosen, directory, present, search)
        errors = [host.error for host in asked if host.error is not None]
        return Result(result.changes, [*errors, *result.errors])

    def _known_places(self, host: str) -> list[str]:
        """The directories of environments with kernelspecs, and those that the user has named."""
        places = [_place(each) for each in self._installed if host in each.hosts]
        seen = self._seen.of(host)
        return [*places, *sorted(seen.search if seen is not None else ())]

    def _chosen(self, host: HostEnvironments) -> list[Environment]:
        """Environments with a kernelspec, and environments that `add` has not shown yet."""
        name = host.host.name
        known = {each.key for each in self._installed if name in each.hosts}
        seen = self._seen.of(name)
        return [
            each
            for each in host.usable
            if each.key in known or (seen is not None and each.key not in seen.keys)
        ]


def _place(installed: InstalledEnvironment) -> str:
    environment = installed.section["environment"]
    path = PurePosixPath(str(environment["path"]))
    # Of a kernelspec, the data directory of Jupyter: DATA/kernels/NAME.
    return str(path.parents[1] if environment["kind"] == "kernelspec" else path)
