"""What the agent is asked to start: a launch request, with what its host and this process add."""

from __future__ import annotations

from collections.abc import Mapping

from ...options.launch_request import LaunchRequest
from ...placement.inventory import HostSpec
from ...protocol.agent_requests import GpuRequest, OutputBounds, Start


def start_message(
    request: LaunchRequest,
    spec: HostSpec,
    *,
    substitutions: Mapping[str, str],
    secret: Mapping[str, str],
    resources: str,
) -> Start:
    """`substitutions` beside those that every kernel has; `secret` for its environment."""
    return Start(
        gpus=GpuRequest(count=request.requirements.gpus, devices=spec.gpus),
        kernel_id=request.kernel_id,
        argv=request.argv,
        substitutions={
            "kernel_id": request.kernel_id,
            "port_range": "{}..{}".format(*request.port_range),
            **substitutions,
        },
        env=request.env,
        request_env={**request.request_env, **secret},
        cwd=request.cwd,
        hook=spec.hook,
        python=spec.python,
        connection={"transport": request.transport, **request.session},
        trial=request.trial,
        port_range=request.port_range,
        lease=request.lease,
        left_idle=request.left_idle,
        resources=resources,
        resources_from=str(request.resource_dir or ""),
        reports_endpoints=request.reports_endpoints,
        preload=list(spec.preload),
        warm=request.warm,
        capacity=None if request.pinned_host else spec.capacity,
        output=OutputBounds(memory=request.output[0], disk=request.output[1]),
    )
