"""What ends `attach` and `forward`, so that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from remote_provisioners.cli.signals import stop_event


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_ends_in_order(signum: signal.Signals) -> None:
    async def use() -> None:
        stop = stop_event()
        os.kill(os.getpid(), signum)
        await asyncio.wait_for(stop.wait(), 30)

    before = signal.signal(signum, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        asyncio.run(use())
    finally:
        signal.signal(signum, before)


def test_nohup_stays() -> None:
    """Its command goes on when the terminal is closed."""

    async def use() -> bool:
        stop = stop_event()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        return stop.is_set()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert not asyncio.run(use())
    finally:
        signal.signal(signal.SIGHUP, before)
