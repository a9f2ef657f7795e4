"""Actions on kernels: start, cancel, move, stop, read logs. Runs on the server's event loop."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async

from ...errors import ConfigurationError
from ...hosts.found_kernels import end_kernel, output_of
from ...io_thread import io_thread
from ...kernels.start.starts import starts
from ...options.installed_specs import read_spec
from ...protocol.agent_requests import GetOutput
from ..hooks.pending_starts import joined
from .models import Model, UnknownNameError
from .view import View, within

#: A kernel has 5 s to end by itself.
_END_SECONDS = 15.0


class Actions:
    """Calls the same methods as Jupyter's REST API, so that other extensions' hooks still run."""

    def __init__(self, manager: Any, contents_manager: Any, root: str, view: View) -> None:
        """`root`: the directory that the server serves."""
        self._manager = manager
        self._contents_manager = contents_manager
        self._root = root
        self._view = view

    async def start(
        self,
        name: str,
        *,
        kernel_id: str = "",
        path: str = "",
        host: str = "",
        labels: Sequence[str] = (),
        gpus: int = 0,
    ) -> Model:
        """Start a kernel of one of our kernelspecs; `path` is its notebook or directory.

        Raises UnknownNameError, and the errors of :mod:`errors`.
        """
        directory = self._manager.kernel_spec_manager.find_kernel_specs().get(name)
        if directory is None:
            raise UnknownNameError("kernelspec", name)
        if read_spec(name, Path(directory)) is None:
            raise ConfigurationError(f"kernels of kernelspec {name!r} do not run on hosts")
        env = dict(os.environ)
        if host:
            env["KERNEL_REMOTE_HOST"] = host
        if labels:
            env["KERNEL_HOST_LABELS"] = ",".join(labels)
        if gpus:
            env["KERNEL_GPUS"] = str(gpus)
        kernel_id = kernel_id or str(uuid.uuid4())
        if kernel_id in self._manager:
            raise ConfigurationError(f"kernel {kernel_id} exists already")
        if path:
            env["JPY_SESSION_NAME"] = str(Path(self._root, path))
        where = await ensure_async(self._contents_manager.get_kernel_path(path)) if path else ""
        started = self._manager.start_kernel(
            kernel_id=kernel_id,
            kernel_name=name,
            path=where,
            env=env,
        )
        return await self._view.kernel(await ensure_async(started))

    async def cancel(self, kernel_id: str) -> bool:
        """Cancel a start. Returns False if this kernel is not starting."""

        async def cancel() -> bool:
            return starts().cancel(kernel_id)

        return await io_thread().call(cancel())

    async def move(self, kernel_id: str, host: str) -> Model:
        """Shut the kernel down and start it on another host, with its id. Its variables are lost.

        A kernel that is starting starts first. Raises the error of its start; UnknownNameError;
        HostError if that host cannot be used: then the kernel stays as it is.
        """
        await self._view.of_this_server(kernel_id)
        kernel = self._manager.get_kernel(kernel_id)
        if not kernel.ready.done():  # it starts, and jupyter_client restarts it only after that
            await joined(kernel.ready, f"kernel {kernel_id} was shut down during its start")
        await kernel.provisioner.move_to(host)
        await ensure_async(self._manager.restart_kernel(kernel_id))
        return await self._view.kernel(kernel_id)

    async def stop(self, kernel_id: str, host: str = "") -> None:
        """End a kernel of this server, or one that another server left on `host`.

        Raises UnknownNameError, HostError.
        """
        if not host or kernel_id in self._manager:
            await self._view.of_this_server(kernel_id)
            await ensure_async(self._manager.shutdown_kernel(kernel_id))
            return
        spec, agent = await self._view.found_on(kernel_id, host)
        await io_thread().call(within(end_kernel(spec, agent, kernel_id), _END_SECONDS))

    async def logs(self, kernel_id: str, host: str = "") -> str:
        """Ask the host for what the kernel's process has written.

        Raises UnknownNameError, HostError.
        """
        if not host or kernel_id in self._manager:
            kernel = await self._view.of_this_server(kernel_id)
            asked = kernel.host.request(GetOutput(kernel_id=kernel_id))
            return (await io_thread().call(within(asked))).output
        spec, agent = await self._view.found_on(kernel_id, host)
        return (await io_thread().call(within(output_of(spec, agent, kernel_id)))).output
