"""Make kernelspecs of environments: ask the hosts, plan, write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from traitlets.config import Config

from ..errors import ConfigurationError, RemoteProvisionerError
from .environment import Environment
from .host_entry import host_entry
from .installed import installed_environments, rewrite, write_environment
from .kernelspec import Offer
from .plan import Change, plan
from .seen import SeenEnvironments
from .survey import HostEnvironments
from .taking import offers

Chosen = Sequence[tuple[HostEnvironments, Sequence[Environment]]]


@dataclass
class Result:
    """The changes, and the errors."""

    changes: list[Change] = field(default_factory=list)
    errors: list[RemoteProvisionerError] = field(default_factory=list)


class Adding:
    """Writes kernelspecs into one directory. `call` runs a coroutine in the I/O thread."""

    def __init__(
        self,
        manager: KernelSpecManager,
        config: Config,
        call: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self._manager = manager
        self._config = config
        self._call = call

    async def add(
        self,
        chosen: Chosen,
        directory: Path,
        present: Mapping[str, Collection[str]] | None = None,
        search: Sequence[str] = (),
    ) -> Result:
        """Make kernelspecs of the chosen environments of each host.

        `present`: as in :func:`plan`. `search`: directories on the hosts that the user has named.
        Later refreshes look there, too. Raises ConfigurationError.
        """
        result = Result()
        found: list[Offer] = []
        for host, environments in chosen:
            try:
                entry = host_entry(host.host, self._config)
                answers = await self._call(offers(host.host, entry, environments))
            except RemoteProvisionerError as error:
                result.errors.append(error if error.host else error.at(host.host.name))
                continue
            found += [answer for answer in answers if isinstance(answer, Offer)]
            result.errors += [a for a in answers if isinstance(a, RemoteProvisionerError)]
        # In a thread: home directories may be on a slow file system.
        result.changes = await asyncio.to_thread(self._written, found, directory, present)
        await asyncio.to_thread(_note_seen, chosen, directory, search)
        return result

    def _written(
        self,
        found: Sequence[Offer],
        directory: Path,
        present: Mapping[str, Collection[str]] | None,
    ) -> list[Change]:
        names = self._manager.find_kernel_specs()
        changes = plan(found, installed_environments(self._manager), names, present)
        for change in changes:
            _write(change, directory)
        return changes


def _note_seen(chosen: Chosen, directory: Path, search: Sequence[str]) -> None:
    seen = SeenEnvironments()
    for host, _ in chosen:
        seen.note(host.host.name, directory, {each.key for each in host.usable}, search)
    try:
        seen.save()
    except OSError as error:
        raise _cannot_write(error) from None


def _write(change: Change, directory: Path) -> None:
    try:
        if change.written and change.offer is None and change.installed is not None:
            rewrite(change.installed, change.content)
        elif change.written and change.offer is not None:
            where = change.installed.directory if change.installed else directory / change.name
            write_environment(where, change.content, change.offer.files, change.offer.programs)
    except OSError as error:
        raise _cannot_write(error) from None


def _cannot_write(error: OSError) -> ConfigurationError:
    return ConfigurationError(f"cannot write {error.filename} ({error.strerror or error})")
