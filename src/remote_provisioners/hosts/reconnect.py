"""Connecting to a host that is wanted back. Lives in the I/O thread."""

from __future__ import annotations

import asyncio

from ..placement.host_address import HostAddress
from . import transport
from .transport import Transport

_NEXT_SECONDS = 1.0
_MOST = 5


class Dialer:
    """Makes connections to one address, several next to each other where that is in a hurry.

    A packet that begins a connection and is lost is sent again after 1, 3 and 7 seconds only: an
    attempt that is under way when the network comes back may sleep on, a new one is answered.
    """

    def __init__(self, address: HostAddress) -> None:
        self._address = address
        self._attempts: set[asyncio.Task[Transport]] = set()

    async def connect(self, hurry: bool) -> Transport:
        """The first connection that is made. Raises the HostError of the first that fails.

        Attempts that are still under way then count for the next call.
        """
        self._begin()
        while True:
            wait = _NEXT_SECONDS if hurry and len(self._attempts) < _MOST else None
            done, _ = await asyncio.wait(
                self._attempts, timeout=wait, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                self._begin()
                continue
            made = [task for task in done if task.exception() is None]
            if made:
                self._attempts.discard(made[0])
                self.close()
                return made[0].result()
            self._attempts -= done
            raise next(iter(done)).exception() or AssertionError

    def _begin(self) -> None:
        self._attempts.add(asyncio.ensure_future(transport.connect(self._address)))

    def close(self) -> None:
        """Give up what is under way, drop what nobody has waited for."""
        for task in self._attempts:
            task.cancel()
            # Cancelled just as it succeeds it may do so all the same.
            task.add_done_callback(_drop)
        self._attempts.clear()


def _drop(task: asyncio.Task[Transport]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
