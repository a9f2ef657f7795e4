"""The doctor's checks of a kernelspec of an engine, up to a kernel that answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from ...engines.base import Engine
from ...errors import RemoteProvisionerError
from ...io_thread import in_io_thread
from ...options.config import CommonOptions
from .findings import Finding, HostFindings


class EngineExamination:
    """The checks of one kernelspec. Run them on the command's loop."""

    def __init__(self, kernelspec: str, options: CommonOptions, timeout: float) -> None:
        self._kernelspec = kernelspec
        self._options: Any = options
        self._timeout = timeout

    async def run(self) -> HostFindings:
        """Run all checks up to the first failure. Leaves nothing in the engine."""
        engine: Engine = self._options.engine(None)
        found = HostFindings(engine.name, (self._kernelspec,))
        for check, step in engine.checks():
            asked = asyncio.wait_for(in_io_thread(_made(step)), self._timeout)
            found.checks.append(await self._find(check, asked))
            if not found.ok:
                return found
        found.checks.append(await self._find("kernel", self._kernel()))
        return found

    async def _find(self, check: str, step: Awaitable[str]) -> Finding:
        try:
            return Finding(check, True, await step)
        except (TimeoutError, asyncio.TimeoutError):
            return Finding(check, False, f"no answer within {self._timeout:g} s (--timeout)")
        except RemoteProvisionerError as error:
            return Finding(check, False, str(error))

    async def _kernel(self) -> str:
        """Start a kernel as an application does, and end it."""
        manager: Any = AsyncKernelManager(kernel_name=self._kernelspec)
        began = time.perf_counter()
        starting = asyncio.ensure_future(manager.start_kernel())
        await asyncio.wait([starting], timeout=self._timeout)
        if not starting.done():
            waits = getattr(manager.provisioner, "reason", "")
            starting.cancel()
            await asyncio.wait([starting])
            text = f"not started within {self._timeout:g} s (--timeout)"
            raise RemoteProvisionerError(f"{text}: {waits}" if waits else text)
        await starting
        client = manager.client()
        client.start_channels()
        try:
            await client.kernel_info(reply=True, timeout=self._timeout)
            seconds = time.perf_counter() - began
            return f"answers on {manager.provisioner.place}, {seconds:.1f} s after the request"
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)


async def _made(step: Callable[[], Awaitable[str]]) -> str:
    return await step()
