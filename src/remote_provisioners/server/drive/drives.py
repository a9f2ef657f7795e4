"""The drives of this server's hosts, and the kernels of notebooks on them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from tornado.web import HTTPError

from ...files.host_files import HostFiles
from ...files.pool import file_pool
from ...hosts.host import Host
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...placement.inventory import HostSpec
from ..view.configured import Configuration
from .contents import Drive, HostContents
from .names import drive_name


class Drives:
    """The drives of all hosts.

    `roots`: the directories of hosts that users may use; if there are none, there are no drives.
    `trash`: whether deleted files go to the trash, as JupyterLab tells its users for all files.
    """

    def __init__(
        self, configuration: Configuration, parent: Any, roots: Sequence[str], trash: bool
    ) -> None:
        self._configuration = configuration
        self._parent = parent
        self._trash = trash
        self.roots = [root for root in roots if root]
        self._contents: dict[str, tuple[HostSpec, HostContents]] = {}

    async def of(self, name: str) -> HostContents:
        """The contents of a host of the configuration, or of a kernel. Raises HTTPError."""
        if not self.roots:
            raise HTTPError(403, "files are off on this server (option RemoteAccess.file_roots)")
        hosts = (await self._configuration.read()).hosts
        place = hosts.get(name)
        spec = place.spec if place else (await io_thread().call(_nodes())).get(name)
        if spec is None:
            raise HTTPError(404, f"there is no host {name}")
        known = self._contents.get(name)
        if known is None or known[0] != spec:

            async def find() -> HostFiles:
                return (await file_pool()).of(await _host(spec), self.roots)

            drive = Drive(name, find, self.roots)
            contents = HostContents(drive, self._trash, parent=self._parent)
            present = {*hosts, *await io_thread().call(_nodes())}
            self._contents = {key: of for key, of in self._contents.items() if key in present}
            known = self._contents[name] = (spec, contents)
        return known[1]

    async def environment_of(self, path: str) -> Mapping[str, str]:
        """What the kernel of a notebook needs that is on a drive: its host, and its directory."""
        drive, colon, below = path.partition(":")
        if not colon or "/" in drive or not self.roots:
            return {}
        for name, place in (await self._configuration.read()).hosts.items():
            if drive_name(name) == drive:
                contents = await self.of(name)
                root, inside = contents.drive.place(posixpath.dirname(below.strip("/")))
                home = await io_thread().call(_home(place.spec))
                root = root[2:] if root == "~" or root.startswith("~/") else root
                directory = posixpath.join(home, root, inside).rstrip("/")
                return {"KERNEL_REMOTE_HOST": name, "KERNEL_WORKING_DIR": directory}
        return {}


async def _nodes() -> dict[str, HostSpec]:
    """The nodes that engines have chosen for kernels, by name."""
    return {kernel.spec.name: kernel.spec for kernel in (await host_registry()).kernels}


async def _host(spec: HostSpec) -> Host:
    registry = await host_registry()
    if spec.address.is_of_engine:  # the agent of its kernel may have another version than ours
        for kernel in registry.kernels:
            if kernel.spec == spec:
                return kernel.host
    return registry.host(spec)


async def _home(spec: HostSpec) -> str:
    """Raises HostError."""
    host = (await host_registry()).host(spec)
    return (await host.link()).agent.home
