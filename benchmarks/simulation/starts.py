"""Starts of kernels, as an application asks for them."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from dataclasses import dataclass

from remote_provisioners.io_thread import Call, here
from remote_provisioners.kernels.remote_kernel import RemoteKernel
from remote_provisioners.options.launch_request import LaunchRequest, build_request
from remote_provisioners.placement.host_placer import HostPlacer
from remote_provisioners.placement.inventory import HostSpec, Inventory
from remote_provisioners.placement.scheduler import Scheduler

#: How long a kernel may be unreachable; nothing is here.
_GRACE_SECONDS = 300.0


def request(environ: dict[str, str] | None = None, seconds: float = 60.0) -> LaunchRequest:
    """What a provisioner makes of an ordinary kernelspec. `environ`: KERNEL_ variables."""
    kernel_id = str(uuid.uuid4())
    return build_request(
        kernel_id=kernel_id,
        argv=["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        spec_env={"PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        resource_dir="/usr/share/jupyter/kernels/python3",
        request_env={"KERNEL_ID": kernel_id, "KERNEL_USERNAME": "user", **(environ or {})},
        cwd="/home/user/notebooks",
        session={
            "kernel_name": "python3",
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
        },
        port_range="0..0",
        launch_timeout=seconds,
    )


async def start(
    scheduler: Scheduler, inventory: Inventory, policy: str, asked: LaunchRequest | None = None
) -> RemoteKernel:
    """One start; returns when the kernel listens."""
    placer = placer_on(scheduler, inventory, policy)
    return await placer.start(asked or request(), lambda where: None)


def placer_on(
    scheduler: Scheduler, inventory: Inventory, policy: str, io: Call = here
) -> HostPlacer:
    """What a provisioner has, with another scheduler and another way to it."""

    async def find() -> Scheduler:
        return scheduler

    return HostPlacer(_Options(inventory, policy), io, find)


async def start_many(
    scheduler: Scheduler,
    inventory: Inventory,
    policy: str,
    count: int,
    in_flight: int = 64,
    seconds: float = float("inf"),
) -> list[RemoteKernel]:
    """`count` starts, so many at a time; none is begun once the `seconds` are over."""
    started: list[RemoteKernel] = []
    left = iter(range(count))
    deadline = time.monotonic() + seconds

    async def one_after_another() -> None:
        for _ in left:
            if time.monotonic() > deadline:
                return
            started.append(await start(scheduler, inventory, policy))

    await asyncio.gather(*(one_after_another() for _ in range(min(in_flight, count))))
    return started


@dataclass(frozen=True)
class _Options:
    """What a provisioner's options say of hosts."""

    hosts: Inventory
    load_balancing_algorithm: str
    network_grace: float = _GRACE_SECONDS

    def inventory(self) -> Inventory:
        return self.hosts

    def host_spec(self, name: str) -> HostSpec:
        (spec,) = (spec for spec in self.hosts if spec.name == name)
        return spec

    def completed(self, spec: HostSpec) -> HostSpec:
        return spec
