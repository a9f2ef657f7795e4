"""This user's other agents on this host, which are of other versions, running or killed.

Kernels stay with the agent that has started them. If it is killed while no server is connected,
nobody would list them, or end them when their lease is over. So each agent looks after the others:
it starts a killed agent with running kernels again, with that agent's own program, which knows its
own records. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
from typing import Callable, Dict, Iterator, List

from ...protocol.conventions import AGENT_SOCKET
from .. import apart
from ..kernels import kernel_record as record
from ..log import say
from ..processes.process_identity import boot_id, leaders_in, stat_of
from ..processes.programs import finished
from . import find_or_start

_SECONDS = 20.0
_COMMAND = "import sys;exec(sys.stdin.buffer.read({}))"


class Siblings:
    """The other agents, by their directories next to ours."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._host, _ = find_or_start.host_identity()
        self._starting: Dict[str, asyncio.Task[str]] = {}
        self._said: Dict[str, str] = {}

    @property
    def host(self) -> str:
        """This host's name in the names of agents' directories."""
        return self._host

    async def answering(self) -> List[str]:
        """The directories of the other agents that run."""
        return await self._look(_answers)

    async def orphaned(self) -> List[str]:
        """The directories of killed agents whose kernels run."""
        return await self._look(lambda path: not _answers(path) and has_kernels(path))

    async def _look(self, wanted: Callable[[str], bool]) -> List[str]:
        """The directories of other agents that are `wanted`."""

        def look() -> List[str]:
            return sorted(path for path in self._others() if wanted(path))

        try:
            return await apart.turns.run(os.path.dirname(self._directory), look)
        except OSError as error:
            say("cannot look for other agents: {}".format(error))
            return []

    async def revive(self) -> None:
        """Start the agents of `orphaned` again, and wait until they listen."""
        for path in await self.orphaned():
            if path not in self._starting:
                self._starting[path] = asyncio.ensure_future(_revive(path))
        for path, task in list(self._starting.items()):
            try:
                said = await asyncio.shield(task)
            except OSError as error:
                said = str(error)
            self._starting.pop(path, None)
            if said != self._said.get(path):
                self._said[path] = said
                say("the agent of {} was killed; started again: {}".format(path, said))

    def _others(self) -> Iterator[str]:
        parent, own = os.path.split(self._directory)
        try:
            names = os.listdir(parent)
        except OSError:
            return
        for name in names:
            path = os.path.join(parent, name)
            # Directories of version 0 do not name their host.
            ours = name.rpartition("-")[2] == self._host if "-" in name else True
            if name != own and ours and os.path.isfile(os.path.join(path, "agent.pyz")):
                yield path


def has_kernels(directory: str) -> bool:
    """Whether a kernel of the agent of `directory` runs on this host."""
    kernels = os.path.join(directory, "k")
    try:
        names = os.listdir(kernels)
    except OSError:
        return False
    return any(_runs(os.path.join(kernels, name)) for name in names)


def _runs(directory: str) -> bool:
    try:
        found = record.read_any(directory)
        process = stat_of(int(found["pid"]))
        same = process is not None and process.started == int(found["start_time"])
        return same and found["boot_id"] == boot_id() and process is not None and not process.ended
    except (OSError, record.RecordError):
        return False
    except (KeyError, TypeError, ValueError):  # a record of an unknown form
        return any(True for _ in leaders_in(directory))


def _answers(directory: str) -> bool:
    """Whether the agent of that directory runs, on this host."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(os.path.join(directory, AGENT_SOCKET))
        if code:
            return code == errno.EAGAIN  # it is stopped, and its queue is full
        if not hasattr(socket, "SO_PEERCRED"):
            return True
        # 0: the listener is in another container, which shares the directory with us.
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return bool(pid)


async def _revive(directory: str) -> str:
    """Start that agent by its own program. Returns the program's answer. Raises OSError."""
    loader = find_or_start.__loader__
    program = loader.get_source(find_or_start.__name__).encode()  # type: ignore[union-attr]
    argv = [sys.executable, "-I", "-S", "-c", _COMMAND.format(len(program))]
    request = find_or_start.request("-", 0, directory)
    done = await finished(argv, _SECONDS, stdin=program + request)
    if done is None:
        return "not within {:g} s".format(_SECONDS)
    said = done.stdout or done.stderr
    return said.decode("utf-8", "replace").strip()[-300:]
