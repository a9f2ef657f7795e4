"""How the agent's archive is run: ``python agent.pyz DIRECTORY READY-DESCRIPTOR``.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import sys
from typing import Any, Mapping, Optional

from ..protocol.conventions import AGENT_SOCKET
from . import log
from .agent import Agent
from .private_socket import bind_private


def main(directory: str, ready: int, template: Optional[Mapping[str, Any]] = None) -> None:
    """Serve on our socket in `directory` until there is nothing left to hold.

    `template`: see forking/first_template.py.
    """
    path = os.path.join(directory, AGENT_SOCKET)
    try:
        listener = _listen(path)
    except OSError as error:  # in one line: the server shows it when the start fails
        sys.exit("cannot listen on {}: {}".format(path, error.strerror or error))
    _lock_against_cleaners(directory)
    log.write_in_thread()
    try:
        asyncio.run(_serve(directory, listener, ready, template))
    finally:
        log.finish()
    try:
        _leave_nothing(directory, path)
    except OSError:
        pass  # removed by somebody else, or an agent of another version lives next to us


def _listen(path: str) -> socket.socket:
    """A listener at `path` that only our user can reach. Raises OSError."""
    listener = bind_private(path)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _lock_against_cleaners(directory: str) -> None:
    """Lock our directory until we end: systemd-tmpfiles removes nothing old below a locked one.

    It would take our program, and the records of kernels that have run for days.
    """
    try:
        fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pass  # this file system has no locks


async def _serve(
    directory: str, listener: socket.socket, ready: int, template: Optional[Mapping[str, Any]]
) -> None:
    await Agent(directory, template).serve(listener, ready)


def _leave_nothing(directory: str, path: str) -> None:
    """Remove our directory, under the lock of find_or_start.py, unless a successor uses it."""
    parent = os.path.dirname(directory)
    lock = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                return
        shutil.rmtree(directory, ignore_errors=True)
        os.rmdir(parent)
    finally:
        os.close(lock)
