"""Warm kernels: started ahead; each gets its identity when somebody asks for a kernel.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import time
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from ...protocol.agent_requests import Start
from ...protocol.conventions import ipc_ports
from .. import apart
from ..channels.endpoints import connection_file, ipc_prefix, ready_endpoints, write_connection
from ..channels.listening import until_all_listen
from ..log import say
from ..processes.kernel_process import Command, KernelProcess
from .forkable import flags_of, has_own_interpreter, shared_part
from .template_connection import receive, send
from .templates import Templates

#: A warm kernel is made when no kernel has been started for this long, so as to slow no start.
REFILL_SECONDS = 2.0
#: How many kernelspecs and environments may have warm kernels.
MOST_RECIPES = 8
LOAD_SECONDS = 30.0
ANSWER_SECONDS = 5.0
#: The prefix of warm kernels' directories; no other kernel's directory begins with it.
PREFIX = "w"


class Recipe(NamedTuple):
    """What a warm kernel must have in common with the kernel that it becomes."""

    #: It contains ``{connection_file}`` in place of that file's path.
    argv: Tuple[str, ...]
    environ: FrozenSet[Tuple[str, str]]
    preload: Tuple[str, ...]
    signature_scheme: str


def recipe_of(
    request: Start,
    argv: List[str],
    environ: Dict[str, str],
    private: FrozenSet[str],
) -> Optional[Recipe]:
    """The recipe of a warm kernel that can become the kernel of `request`; None if none can.

    `private`: the variables of its environment whose values name this kernel.
    """
    connection = request.connection
    plain = connection["transport"] == "ipc" and "curve_publickey" not in connection
    named = any("{kernel_id}" in word for word in request.argv)
    elsewise = request.reports_endpoints or flags_of(argv) is None
    if not plain or named or elsewise or has_own_interpreter(private):
        return None
    shared = frozenset(shared_part(environ, private).items())
    scheme = connection.get("signature_scheme", "hmac-sha256")
    return Recipe(tuple(argv), shared, tuple(request.preload), scheme)


class WarmKernel:
    """A process that waits for its identity. It keeps its directory."""

    def __init__(self, directory: str, process: KernelProcess, identity: socket.socket) -> None:
        self.directory = directory
        self.process = process
        self._identity = identity

    async def is_fresh(self) -> bool:
        """Whether it runs, and the files that it has imported are unchanged."""
        try:
            await send(self._identity, {"fresh": None})
            return bool(await asyncio.wait_for(receive(self._identity), ANSWER_SECONDS))
        except (OSError, EOFError, asyncio.TimeoutError):
            return False

    async def assign(self, command: Command, key: str) -> KernelProcess:
        """Turn it into the kernel of `command`, which signs with `key`. Raises OSError."""
        message = {"env": command.environ, "cwd": command.cwd, "key": key}
        try:
            await send(self._identity, message)
            await asyncio.wait_for(receive(self._identity), ANSWER_SECONDS)
        except (EOFError, asyncio.TimeoutError):
            raise OSError(errno.ESRCH, "the warm kernel ended", command.argv[0]) from None
        finally:
            self._identity.close()
        self.process.started = time.time()
        return self.process

    def end(self) -> None:
        """End it, unused."""
        self._identity.close()
        if self.process.reap() is None:
            self.process.signal(signal.SIGKILL)
        remove(self.directory)


def remove(directory: str) -> None:
    """Remove a kernel's directory, apart from the loop."""
    apart.turns.begin(directory, lambda: shutil.rmtree(directory, ignore_errors=True))


class WarmKernels:
    """The warm kernels of an agent, by recipe."""

    def __init__(self, parent_directory: str, templates: Templates) -> None:
        self._parent = parent_directory
        self.templates = templates
        self._ready: Dict[Recipe, List[WarmKernel]] = {}
        self._wanted: Dict[Recipe, int] = {}
        self._last_start = 0.0
        self._refilling: Optional[asyncio.Task[None]] = None

    async def take(self, recipe: Recipe) -> Optional[WarmKernel]:
        """A warm kernel of this recipe; None when there is none."""
        kernels = self._ready.get(recipe, [])
        while kernels:
            kernel = kernels.pop(0)
            if await kernel.is_fresh():
                return kernel
            kernel.end()
        return None

    def want(self, recipe: Recipe, count: int) -> None:
        """Keep `count` ready from now on. Called when a kernel of this recipe has started."""
        self._last_start = time.monotonic()
        if count == 0 and recipe not in self._wanted:
            return
        self._wanted.pop(recipe, None)
        self._wanted[recipe] = count  # the last is the one used last
        for old in list(self._wanted)[:-MOST_RECIPES]:
            self._forget(old)
        kernels = self._ready.setdefault(recipe, [])
        while len(kernels) > count:
            kernels.pop().end()
        if self._refilling is None:
            self._refilling = asyncio.ensure_future(self._refill())

    def _forget(self, recipe: Recipe) -> None:
        del self._wanted[recipe]
        for kernel in self._ready.pop(recipe, []):
            kernel.end()

    @property
    def pids(self) -> Set[int]:
        """The processes that nobody else may reap."""
        return {kernel.process.pid for kernels in self._ready.values() for kernel in kernels}

    async def _refill(self) -> None:
        try:
            while True:
                missing = [r for r, n in self._wanted.items() if len(self._ready[r]) < n]
                if not missing:
                    return
                quiet = time.monotonic() - self._last_start
                if quiet < REFILL_SECONDS:
                    await asyncio.sleep(REFILL_SECONDS - quiet)
                    continue
                made = await self._make(missing[0])
                if made is None:
                    say("cannot start a warm kernel of {}".format(missing[0].argv[0]))
                    self._forget(missing[0])
                elif missing[0] in self._ready:
                    self._ready[missing[0]].append(made)
                else:
                    made.end()
        finally:
            self._refilling = None

    async def _make(self, recipe: Recipe) -> Optional[WarmKernel]:
        directory = os.path.join(self._parent, PREFIX + os.urandom(5).hex()[1:])
        connection: Dict[str, Any] = {
            "transport": "ipc",
            "ip": ipc_prefix(directory),
            **ipc_ports(),
            "key": os.urandom(16).hex(),  # nobody's
            "signature_scheme": recipe.signature_scheme,
        }

        def prepare() -> None:
            os.mkdir(directory, 0o700)
            write_connection(directory, connection)

        file = connection_file(directory)
        argv = [word.replace("{connection_file}", file) for word in recipe.argv]
        ours, theirs = socket.socketpair()
        command = Command(
            argv,
            dict(recipe.environ),
            "/",
            os.path.join(directory, "output"),
            [theirs.fileno()],
        )
        ours.setblocking(False)
        kernel = None
        try:
            with theirs:
                await apart.turns.run(directory, prepare)
                process = await self.templates.fork(
                    command, frozenset(), recipe.preload, waits=True
                )
            if process is None:
                raise ChildProcessError
            kernel = WarmKernel(directory, process, ours)
            listening = until_all_listen(ready_endpoints(connection))
            await asyncio.wait_for(listening, LOAD_SECONDS)
            return kernel
        except (OSError, asyncio.TimeoutError):
            if kernel is not None:
                kernel.end()
            ours.close()
            remove(directory)
            return None

    def close(self) -> None:
        """End the warm kernels that nobody has used."""
        if self._refilling is not None:
            self._refilling.cancel()
        for kernels in self._ready.values():
            for kernel in kernels:
                kernel.end()
        self._ready.clear()
