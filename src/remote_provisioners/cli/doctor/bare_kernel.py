"""Start a kernel only to time it."""

from __future__ import annotations

import itertools
import secrets
import statistics
import time
import uuid
from dataclasses import dataclass

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient

from ...hosts.registry import host_registry
from ...kernels.remote_kernel import RemoteKernel
from ...options.launch_request import build_request
from ...placement.inventory import HostSpec

_ARGV = ("python", "-m", "ipykernel_launcher", "-f", "{connection_file}")
_GRACE_SECONDS = 1.0
_ROUND_TRIPS = 7


@dataclass(frozen=True)
class Timing:
    """Milliseconds until the kernel's first reply, and for a later round trip."""

    start: float
    round_trip: float


async def time_bare_kernel(spec: HostSpec, timeout: float) -> Timing:
    """Start an ipykernel on a host, talk to it and end it. Call this in the I/O thread.

    Raises HostError, KernelStartError, TimeoutError.
    """
    kernel_id = str(uuid.uuid4())
    request = build_request(
        kernel_id=kernel_id,
        argv=_ARGV,
        spec_env={},
        resource_dir="",
        request_env={"KERNEL_ID": kernel_id},
        cwd=None,
        session={"key": secrets.token_hex(16), "signature_scheme": "hmac-sha256"},
        port_range="0..0",
        launch_timeout=timeout,
    )
    hosts = await host_registry()
    began = time.perf_counter()
    kernel = await hosts.start_on(spec, request, _GRACE_SECONDS)
    try:
        return await _timed(kernel, began, timeout)
    finally:
        await hosts.end(kernel)


async def _timed(kernel: RemoteKernel, began: float, timeout: float) -> Timing:
    with zmq.asyncio.Context() as context:
        client = AsyncKernelClient(context=context)
        client.load_connection_info(kernel.client_connection())
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        try:
            await client.kernel_info(reply=True, timeout=timeout)
            moments = [began, time.perf_counter()]
            for _ in range(_ROUND_TRIPS):
                await client.kernel_info(reply=True, timeout=timeout)
                moments.append(time.perf_counter())
        finally:
            client.stop_channels()
    spans = [1000 * (later - before) for before, later in itertools.pairwise(moments)]
    return Timing(spans[0], statistics.median(spans[1:]))
