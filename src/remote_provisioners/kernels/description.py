"""What another process needs to adopt a running kernel."""

from __future__ import annotations

from typing import Any

from jupyter_client.connect import KernelConnectionInfo

from .remote_kernel import RemoteKernel


def describe(kernel: RemoteKernel, connection_info: KernelConnectionInfo) -> dict[str, Any]:
    """The kernel's host, agent and owner, and its connection here and there, with the key."""
    return {
        "connection_info": {**connection_info, "key": kernel.connection["key"]},
        "host_connection": kernel.connection,
        "host": kernel.spec.name,
        "agent": kernel.host.directory,
        "boot": kernel.machine.boot,
        "machine": kernel.machine.name,
        "owner": kernel.owner,
        "pid": kernel.pid,
    }
