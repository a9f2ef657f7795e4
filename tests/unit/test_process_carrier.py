"""A process of this machine that carries a pipe, when nobody needs it any more."""

from __future__ import annotations

import asyncio
import os

from remote_provisioners.hosts.transport.pipe.process import ProcessCarrier

#: Says its pid, and does not end when it is asked to.
STUBBORN = 'trap "" TERM; echo $$; while :; do sleep 0.05; done'


class Carried:
    def __init__(self) -> None:
        self.said = b""
        self.changed, self.over = asyncio.Event(), False

    def begin(self, carrier: object) -> None:
        pass

    pause_writing = resume_writing = lambda self: None

    def data_received(self, data: bytes) -> None:
        self.said += data
        self.changed.set()

    errors_received = data_received

    def ended(self, returncode: int | None) -> None:
        self.over = True


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def aborted() -> int:
    """The pid of a process that has just been told to end."""
    carried = Carried()
    carrier = ProcessCarrier(["sh", "-c", STUBBORN], carried)
    while b"\n" not in carried.said:
        await carried.changed.wait()
        carried.changed.clear()
    carrier.abort()
    assert carried.over
    return int(carried.said)


def test_the_loop_does_not_wait_for_a_process_that_is_told_to_end() -> None:
    async def body() -> None:
        pid = await aborted()
        assert runs(pid)
        while runs(pid):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(body(), 10))


def test_it_ends_also_when_the_loop_ends_at_once() -> None:
    pid = asyncio.run(aborted())
    assert not runs(pid)
