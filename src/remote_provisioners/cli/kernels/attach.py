"""``jupyter remote attach``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...kernels.remote_kernel import RemoteKernel
from ..command import FAILED, MISUSED, CommandError
from ..signals import stop_event
from .found import FoundKernel, pick
from .search import SearchCommand

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 600.0


class AttachApp(SearchCommand):
    name = "jupyter-remote-attach"
    description = """Connect this machine to a kernel on a host, until Ctrl-C.

    Usage: jupyter remote attach ID

    ID may be shortened. The command prints another command, which opens a console on the kernel.
    Other clients can use the same connection file. A server that owns the kernel keeps it. The
    lease of a kernel without a server does not run out while you are attached. The kernel keeps
    running when this command ends.
    """
    examples = "jupyter remote attach 3f2a"

    async def work(self) -> int:
        words = self.words(1, "the id of one kernel")
        if not words:
            raise CommandError("the kernel's ID is missing (see jupyter remote kernels)", MISUSED)
        found, failures = await self.search()
        chosen = pick(found, words[0], failures)
        if not chosen.running:
            raise CommandError(f"kernel {chosen.kernel_id} is not running: {chosen.state}")
        kernel = await io_thread().call(_attach(chosen))
        staying = asyncio.ensure_future(io_thread().call(kernel.stay_attached()))
        stop = stop_event()
        with _connection_file(kernel) as path:
            print(f"jupyter console --existing {shlex.quote(str(path))}", flush=True)
            while not stop.is_set() and not kernel.life.over:
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        staying.cancel()
        if kernel.life.over:
            raise CommandError(f"kernel {kernel.kernel_id} ended: {kernel.life.reason}", FAILED)
        return 0


async def _attach(found: FoundKernel) -> RemoteKernel:
    """Raises HostError, KernelLostError."""
    registry = await host_registry()
    kernel = await registry.prepare_attachment(
        found.kernel_id, found.host, found.agent, _GRACE_SECONDS
    )
    await kernel.adopt()
    return kernel


@contextlib.contextmanager
def _connection_file(kernel: RemoteKernel) -> Iterator[Path]:
    """A connection file that only this user can read. It is removed at the end."""
    directory = Path(jupyter_runtime_dir())
    directory.mkdir(0o700, parents=True, exist_ok=True)
    path = directory / f"attached-{kernel.kernel_id}-{os.getpid()}.json"
    info = dict(kernel.client_connection())
    info["key"] = kernel.connection["key"]
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w") as file:
            json.dump(info, file)
        yield path
    finally:
        path.unlink(missing_ok=True)
