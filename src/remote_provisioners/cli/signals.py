"""The end of a command that goes on until its user ends it."""

from __future__ import annotations

import asyncio
import signal


def stop_event() -> asyncio.Event:
    """Set by Ctrl-C, by SIGTERM, and when the terminal is closed, unless nohup forbids that."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for signum in signals:
        loop.add_signal_handler(signum, stop.set)
    return stop
