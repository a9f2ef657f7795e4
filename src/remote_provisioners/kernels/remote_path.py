"""Paths of a kernel's file system."""

from __future__ import annotations

import asyncio

from ..errors import RemoteProvisionerError
from ..protocol.agent_requests import ResolvePath
from .remote_kernel import RemoteKernel

RESOLVE_SECONDS = 5.0


async def resolve(kernel: RemoteKernel, path: str) -> str | None:
    """`path` made absolute, as the kernel would; None where there is nothing, or no answer."""
    asked = kernel.host.request(ResolvePath(kernel_id=kernel.kernel_id, path=path))
    try:
        return (await asyncio.wait_for(asked, RESOLVE_SECONDS)).path or None
    except (RemoteProvisionerError, asyncio.TimeoutError):
        return None  # its host is away, or has an agent that does not know such a question
