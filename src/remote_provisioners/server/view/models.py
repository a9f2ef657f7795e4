"""Hosts, kernels, starts and errors as JSON. Pure; documented in ``api/openapi.yaml``."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any

from ...errors import RemoteProvisionerError
from ...events import StartProgress
from ...hosts.host import Host
from ...kernels.lifecycle import State
from ...kernels.remote_kernel import RemoteKernel
from ...placement.host_address import HostAddress
from ...placement.inventory import HostSpec
from ...protocol.answers import KernelStatus

Model = dict[str, Any]


class UnknownNameError(KeyError):
    """This server has no host, kernelspec, environment or kernel of this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(name)
        self.text = f"there is no {kind} {name!r}"


_PRINTED = "; it printed:\n"
_NO_LOAD = {"cores": None, "load": None, "memory": None, "memory_available": None}


def error_model(error: BaseException) -> Model:
    """What happened, where, what the kernel printed, and what to do."""
    message, host = str(error), ""
    if isinstance(error, RemoteProvisionerError):
        message, host = error.message, error.host
    message, _, printed = message.partition(_PRINTED)
    message, _, advice = message.partition("\n")
    return {
        "kind": type(error).__name__,
        "host": host,
        "message": message,
        "advice": advice.strip(),
        "printed": printed,
    }


def host_state(host: Host) -> str:
    """connected, connecting, unreachable (it has kernels of ours), unusable, disconnected."""
    if host.connected:
        return "connected"
    if host.kernels and host.away_since is not None:
        return "unreachable"
    if host.circuit is not None:
        return "unusable"
    return "connecting" if host.connecting_since is not None else "disconnected"


def host_model(
    spec: HostSpec, kernelspecs: Sequence[str], host: Host | None, since: float | None
) -> Model:
    """The model of a host. `host` is None if this process has not used it yet."""
    load = host.load if host is not None else None
    circuit = host.circuit if host is not None else None
    state = host_state(host) if host is not None else "disconnected"
    return {
        "name": spec.name,
        "state": state,
        "since": since,
        "error": error_model(circuit.error.at(spec.name)) if circuit is not None else None,
        **(_NO_LOAD if load is None else {name: getattr(load, name) for name in _NO_LOAD}),
        "gpus": list(spec.gpus),
        "gpus_taken": [] if load is None else [g for g in spec.gpus if g in load.gpus_taken],
        "kernels": {
            "mine": len(host.kernels) if host is not None else 0,
            # A report may be older than our last start.
            "all": None if load is None or host is None else max(load.kernels, len(host.kernels)),
        },
        "capacity": spec.capacity,
        "weight": spec.weight,
        "labels": sorted(spec.labels),
        "way_in": _way_in(spec.address),
        "kernelspecs": list(kernelspecs),
        "round_trip": host.round_trip if host is not None else None,
    }


def _way_in(address: HostAddress) -> str:
    if address.is_of_engine:
        return "engine"
    return "local" if address.is_local else "ssh"


def kernel_model(kernel: RemoteKernel) -> Model:
    """A kernel of this server, as far as its provisioner knows it."""
    life, now = kernel.life, time.monotonic()
    away = None
    if life.unreachable and life.unreachable_since is not None:
        away = now - life.unreachable_since
    code = life.exit_code if life.state is State.EXITED else None
    return {
        "id": kernel.kernel_id,
        "host": kernel.spec.name,
        "state": "unreachable" if life.unreachable else life.state.value,
        "unreachable_for": away,
        "grace_left": life.grace_left(now, kernel.grace) if away is not None else None,
        "exit_code": code,
        "signal": signal_name(code),
        "reason": life.reason,
        "pid": kernel.pid,
        "cwd": kernel.cwd,
        "gpus": list(kernel.gpus),
        "way": kernel.way,
        "started": kernel.started,
        "lease": kernel.lease,
        # The host counts from when it lost our connection, about the time when we lost it.
        "lease_left": None if away is None or kernel.lease is None else kernel.lease - away,
        "memory": None,
        "idle": None,
        "owner": "this server",
    }


def found_kernel_model(spec: HostSpec, agent: str, found: KernelStatus) -> Model:
    """The model of a kernel that a host reported, of any owner; `agent`: its agent's directory."""
    state = "running" if found.exit_code is None else "exited"
    return {
        "id": found.kernel_id,
        "host": spec.name,
        "agent": agent,
        "state": "starting" if found.pid is None else state,
        "exit_code": found.exit_code,
        "signal": signal_name(found.exit_code),
        "reason": found.ended_by,
        "pid": found.pid,
        "started": found.started,
        "gpus": list(found.gpus),
        "lease": found.lease,
        "lease_left": found.lease_left,
        "memory": found.memory,
        "idle": found.idle,
        "owner": "another server" if found.owned else "no server",
    }


def start_model(start: StartProgress) -> Model:
    return {
        "kernel_id": start.kernel_id,
        "phase": start.phase.value,
        "kind": start.kind,
        "host": start.host,
        "notebook": start.notebook,
        "text": start.text,
        "ahead": start.ahead,
        "way": start.way,
        "seconds": round(start.seconds, 3),
        "error": None if start.error is None else error_model(start.error),
    }


def signal_name(code: int | None) -> str | None:
    """The name of the signal for a negative exit code; None for other codes."""
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return str(-code)
