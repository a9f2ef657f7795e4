"""Kernels on the nodes of engines: the records of servers say where they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from ...engines.base import Engine
from ...errors import RemoteProvisionerError
from ...hosts.registry import host_registry
from ...options.config import CommonOptions
from ...placement.inventory import HostSpec
from ...protocol.agent_requests import GetStatus
from ...server.restore.record import Record
from ...server.restore.records import all_records, records_parent
from .found import FoundKernel


def recorded(engines: Mapping[str, CommonOptions]) -> list[Record]:
    """The records of kernels of these kernelspecs, which an engine places."""
    records = [record for _, record in all_records(records_parent())]
    return [record for record in records if record.kernel_name in engines]


async def kernels_of_engines(
    engines: Mapping[str, CommonOptions],
) -> tuple[list[FoundKernel], list[str]]:
    """The kernels, and the failures of nodes that did not answer. In the I/O thread."""

    async def found(record: Record) -> FoundKernel | str | None:
        try:
            return await _kernel(engines[record.kernel_name], record)
        except RemoteProvisionerError as error:
            return str(error)

    answers = await asyncio.gather(*map(found, recorded(engines)))
    kernels = [answer for answer in answers if isinstance(answer, FoundKernel)]
    return kernels, [answer for answer in answers if isinstance(answer, str)]


async def _kernel(options: Any, record: Record) -> FoundKernel | None:
    """The kernel as its agent describes it; None if it still waits for a node."""
    engine: Engine = options.engine(None)
    left = dict(record.info.get(engine.name.lower()) or {})
    tag, job = left.pop("tag", ""), left.pop("id", "")
    if not left:
        return None
    node = engine.node_type(**left)
    spec = HostSpec(node.host, node.address, python=node.python)
    host = (await host_registry()).host_with(spec, node.directory)
    status = await host.request(GetStatus())
    seconds = None
    with contextlib.suppress(RemoteProvisionerError):
        seconds = await engine.seconds_left(tag)
    for kernel in status.kernels:
        if kernel.kernel_id == record.kernel_id:
            return FoundKernel(spec, kernel.fields(), node.directory, job, seconds)
    return None
