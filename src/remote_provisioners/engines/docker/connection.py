"""A container of Docker's for one kernel: a pipe by `docker exec -i`."""

from __future__ import annotations

from ...errors import HostError, NodeGoneError
from ...hosts.transport.command import connect_by_command
from ...hosts.transport.pipe.transport import PipeTransport
from .address import ContainerAddress
from .program import DockerProgram


async def connect_container(address: ContainerAddress, python: str) -> PipeTransport:
    """A pipe into the container. Raises HostError, or NodeGoneError if it has ended."""
    try:
        return await connect_by_command(address, python)
    except HostError as failed:
        program = DockerProgram(address.program)
        try:
            state = await program.state(address.host)
        except HostError as error:
            raise error.at(str(address)) from None
        if state is not None and not state.end:
            raise failed
        end = state.end if state is not None else await program.why_gone(address.host)
        raise NodeGoneError(f"the container has ended: {end or 'it was removed'}") from None
