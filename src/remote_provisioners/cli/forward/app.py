"""``jupyter remote forward``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...agent.bootstrap.find_or_start import host_identity
from ...errors import ConfigurationError, RemoteProvisionerError
from ...hosts.registry import host_registry
from ...io_thread import io_thread
from ...ports.local_port import LocalPort
from ..command import MISUSED, CommandError
from ..kernels.found import FoundKernel, pick
from ..kernels.search import SearchCommand
from ..signals import stop_event

_HIGHEST = 65535
#: Without this error, connections would go round in a circle.
_ITSELF = (
    "the kernel runs on this machine: its port {0} would lead to itself.\n"
    "Use http://127.0.0.1:{0}, or name another local port: PORT:LOCAL"
)


class ForwardApp(SearchCommand):
    name = "jupyter-remote-forward"
    description = """Make a port of a kernel's host reachable on this machine, until Ctrl-C.

    Usage: jupyter remote forward ID PORT[:LOCAL]

    ID is the kernel's id. It may be shortened. PORT is the port on the kernel's host. One of your
    programs must listen on it, on the loopback interface. LOCAL is the port on this machine. The
    default is PORT. 0 means any free port. On Linux, only your own programs can use it.
    """
    examples = """
    jupyter remote forward 3f2a 6006
    jupyter remote forward 3f2a 8787:9000
    """

    async def work(self) -> int:
        words = self.words(2, "the id of one kernel and a port")
        if len(words) < 2:
            text = "give a kernel's ID and a PORT (see jupyter remote kernels)"
            raise CommandError(text, MISUSED)
        port, local = ports(words[1])
        found, failures = await self.search()
        chosen = pick(found, words[0], failures)
        if not chosen.running:
            raise CommandError(f"kernel {chosen.kernel_id} is not running: {chosen.state}")
        forward = await io_thread().call(_forward(chosen, port, self.complain))
        try:
            try:
                number = await io_thread().call(forward.listen(local))
            except ConfigurationError as error:
                raise CommandError(error.message) from None
            if number == port and await io_thread().call(_is_here(chosen)):
                raise CommandError(_ITSELF.format(port))
            print(f"http://127.0.0.1:{number}", flush=True)
            await stop_event().wait()
        finally:
            await io_thread().call(forward.close())
        return 0


async def _forward(
    found: FoundKernel, port: int, on_error: Callable[[RemoteProvisionerError], None]
) -> LocalPort:
    registry = await host_registry()
    host = registry.host_with(found.host, found.agent)
    return LocalPort(lambda: host, found.kernel_id, port, on_error)


async def _is_here(found: FoundKernel) -> bool:
    """Whether the kernel's host is this machine."""
    host = (await host_registry()).host_with(found.host, found.agent)
    there = (await host.link()).agent.host
    return there != "" and there == (await asyncio.to_thread(host_identity))[0]


def ports(word: str) -> tuple[int, int]:
    """The port there and the port here. Raises CommandError."""
    there, colon, here = word.partition(":")
    try:
        numbers = int(there), int(here) if colon else int(there)
    except ValueError:
        numbers = (-1, -1)
    if not 0 < numbers[0] <= _HIGHEST or not 0 <= numbers[1] <= _HIGHEST:
        raise CommandError(f"{word!r} is neither PORT nor PORT:LOCAL", MISUSED)
    return numbers
