"""Asks hosts for their environments. Call these functions in the I/O thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import AgentError, RemoteProvisionerError
from ..hosts.registry import host_registry
from ..placement.inventory import HostSpec
from ..protocol.agent_requests import FindEnvironments
from .environment import Environment, environments_of

#: Beyond the environment hook, which may take a minute, an agent answers within two seconds.
_ANSWER_SECONDS = 90.0


@dataclass(frozen=True)
class HostEnvironments:
    """The environments of a host, or the error. `unfinished`: places that it did not reach."""

    host: HostSpec
    environments: Sequence[Environment] = ()
    seconds: float = 0.0
    unfinished: Sequence[str] = ()
    error: RemoteProvisionerError | None = field(default=None, compare=False)

    @property
    def usable(self) -> list[Environment]:
        return [environment for environment in self.environments if environment.usable]


async def environments_on(spec: HostSpec, directories: Sequence[str] = ()) -> HostEnvironments:
    """Ask one host. Raises nothing: an error is part of the answer."""
    try:
        host = (await host_registry()).host(spec)
        request = FindEnvironments(hook=spec.hook, directories=list(directories))
        found = await asyncio.wait_for(host.request(request), _ANSWER_SECONDS)
    except RemoteProvisionerError as error:
        return HostEnvironments(spec, error=error if error.host else error.at(spec.name))
    except (asyncio.TimeoutError, TimeoutError):
        late = AgentError(f"no answer within {_ANSWER_SECONDS:.0f} s", host=spec.name)
        return HostEnvironments(spec, error=late)
    return HostEnvironments(spec, environments_of(found), found.seconds, found.unfinished)
