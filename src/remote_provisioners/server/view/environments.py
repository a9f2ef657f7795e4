"""The environments of a host, and kernelspecs of them. Runs on the server's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from traitlets.config import Config

from ...environments.adding import Adding, Result
from ...environments.host_entry import for_environments
from ...environments.installed import kernelspecs_here
from ...environments.refreshing import Refreshing
from ...environments.survey import HostEnvironments, environments_on
from ...errors import ConfigurationError
from ...io_thread import io_thread
from ...placement.inventory import HostSpec
from .configured import Configuration
from .models import Model, UnknownNameError, error_model
from .view import View


class Environments:
    """What `jupyter remote scan`, `add` and `refresh` do, for the user of this server."""

    def __init__(
        self,
        view: View,
        configuration: Configuration,
        manager: KernelSpecManager,
        config: Config,
    ) -> None:
        self._view = view
        self._configuration = configuration
        self._manager = manager
        self._config = config

    async def on_host(self, name: str) -> Model:
        """The environments of a host; asks it. Raises UnknownNameError, HostError."""
        found = await self._ask(name)
        here = await asyncio.to_thread(kernelspecs_here, self._manager)
        return {
            "host": name,
            "seconds": round(found.seconds, 3),
            "unfinished": list(found.unfinished),
            "environments": [
                {**each.as_json(), "kernelspec": here.get((name, each.key))}
                for each in found.environments
            ],
        }

    async def add(self, name: str, keys: Collection[str]) -> Model:
        """Make kernelspecs of these environments for the server's user.

        Raises UnknownNameError for a key that is not there, HostError, ConfigurationError.
        """
        found = await self._ask(name)
        usable = {each.key: each for each in found.usable}
        if unknown := [key for key in keys if key not in usable]:
            raise UnknownNameError(f"environment with a kernel on {name}:", unknown[0])
        chosen = [usable[key] for key in keys]
        directory = Path(self._manager.user_kernel_dir)
        return self._done(await self._adding().add([(found, chosen)], directory))

    async def refresh(self, name: str) -> Model:
        """Ask a host for its environments, and update the kernelspecs that were made of them.

        Raises UnknownNameError, ConfigurationError.
        """
        spec = await self._spec(name)
        # In a thread: it reads all kernelspecs.
        refreshing = await asyncio.to_thread(Refreshing, self._manager, self._adding(), self._call)
        directory = refreshing.directory([name], Path(self._manager.user_kernel_dir))
        return self._done(await refreshing.refresh([spec], directory))

    def _adding(self) -> Adding:
        return Adding(self._manager, self._config, self._call)

    def _done(self, result: Result) -> Model:
        self._configuration.forget()
        return {
            "kernelspecs": [change.as_json() for change in result.changes],
            "errors": [error_model(error) for error in result.errors],
        }

    async def _spec(self, name: str) -> HostSpec:
        place = await self._view.configured_host(name)
        if place.spec.address.is_of_engine:
            raise ConfigurationError(
                f"{name} exists for one kernel: no other kernel can start there\n"
                "Make a kernelspec for the engine: jupyter remote spec install --help"
            )
        return for_environments(place.listed or place.spec, place.spec, self._config)

    async def _ask(self, name: str) -> HostEnvironments:
        found: HostEnvironments = await self._call(environments_on(await self._spec(name)))
        if found.error is not None:
            raise found.error
        return found

    @staticmethod
    async def _call(work: Any) -> Any:
        return await io_thread().call(work)
