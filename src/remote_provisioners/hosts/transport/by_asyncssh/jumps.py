"""The jump hosts of an SSH configuration (ProxyJump)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ....errors import ConfigurationError, UnreachableError
from ....placement.host_address import HostAddress, parse_address
from ..ssh.reading import ask_openssh, jump_hosts

#: ``ssh -G`` writes an IPv4 address in brackets, like an IPv6 one.
_IPV4 = re.compile(r"\[([\d.]+)\]")


def jump_address(hop: str) -> HostAddress:
    """Parse a hop: [user@]host[:port], or an ssh:// address. Raises UnreachableError."""
    try:
        return parse_address(_IPV4.sub(r"\1", hop.removeprefix("ssh://")))
    except ConfigurationError as error:
        raise UnreachableError(f"the SSH configuration: ProxyJump: {error}") from None


def circle(hop: str) -> UnreachableError:
    """The error for jump hosts that lead back to `hop`."""
    return UnreachableError(
        f"the SSH configuration: the way through ProxyJump leads back to {hop}.\n"
        f"In it, set `ProxyJump none` for {hop}, above the line that sets ProxyJump."
    )


async def refuse_circle(
    program: str, address: HostAddress, said: Mapping[str, Sequence[str]]
) -> None:
    """Raise UnreachableError if the jump hosts of `address` lead in a circle.

    The `ssh` program does not notice that, and starts itself again and again.
    `said`: the output of ``ssh -G`` for the address.
    """
    seen, name = {address.host}, address.host
    while jumps := jump_hosts(name, said):
        first = jump_address(jumps[0])  # it leads to all other jump hosts
        if first.host in seen:
            raise circle(first.host).at(str(address))
        name = first.host
        seen.add(name)
        said, _ = await ask_openssh(program, first)
