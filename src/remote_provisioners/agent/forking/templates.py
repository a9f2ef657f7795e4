"""Fork kernels: one template process for each interpreter and environment, started when needed.

Kernels that cannot be forked are spawned (fork and exec). So is the first kernel of an environment,
because it would wait longer for its template, unless first_template.py has begun it. Standard
library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import select
import signal
import time
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Set, Tuple

from .. import apart
from ..log import say
from ..processes.kernel_process import Command, KernelProcess
from ..processes.orphans import adopt_orphans
from .forkable import flags_of, has_own_interpreter, is_relative, shared_part
from .template_process import Template

#: A template that is not used any more still takes 45 MB of memory.
MOST_TEMPLATES = 4
#: A template is loaded this long after its environment's first kernel, so as not to slow it down.
LOAD_AFTER_SECONDS = 1.0
_KILL_SECONDS = 0.5


#: Program and flags, environment, directory, modules to preload.
Key = Tuple[Tuple[str, ...], FrozenSet[Tuple[str, str]], str, Tuple[str, ...]]


class Templates:
    """The templates of an agent."""

    def __init__(self) -> None:
        self._templates: Dict[Key, Template] = {}
        #: Timers of templates that will be loaded; a kernel that needs one loads it sooner.
        self._coming: Dict[Key, asyncio.TimerHandle] = {}
        self._able: Optional[bool] = None
        #: Programs whose kernels are not forked, and why: the log says it once.
        self._spawned: Set[Tuple[str, str]] = set()

    async def start(
        self, command: Command, private: FrozenSet[str], preload: Sequence[str]
    ) -> KernelProcess:
        """Fork a kernel if that gives the same kernel, otherwise spawn it.

        `private`: the variables of its environment whose values name this kernel. Raises OSError.
        """
        forked = await self.fork(command, private, preload)
        if forked is not None:
            return forked
        where = "{}, {}".format(command.argv[0], command.cwd)
        return await apart.run(where, lambda: KernelProcess.spawn(command), late=_give_up)

    async def fork(
        self,
        command: Command,
        private: FrozenSet[str] = frozenset(),
        preload: Sequence[str] = (),
        waits: bool = False,
    ) -> Optional[KernelProcess]:
        """Fork a kernel. Returns None if it has to be spawned. Raises OSError.

        A kernel that `waits` gets its identity on its last descriptor (see warm_kernels.py).
        """
        flags = flags_of(command.argv)
        if flags is None:
            self._note_spawned(command.argv[0], "no ipykernel")
            return None
        if has_own_interpreter(private):
            self._note_spawned(command.argv[0], "its interpreter reads the kernel id")
            return None
        if not self._can_fork():
            return None
        shared = shared_part(command.environ, private)
        cwd = "/"
        if is_relative(shared.get("PYTHONPATH", "")):
            if waits:
                return None  # its directory is not known yet
            cwd = command.cwd
        key = ((command.argv[0], *flags), frozenset(shared.items()), cwd, tuple(preload))
        tries = 2 if waits else int(self._is_expected(key))  # the second try has a new template
        for _ in range(tries):
            found = self._template(key, command.argv, shared)
            pid = await found.fork(command, flags, waits)
            if pid is not None:
                process = KernelProcess(pid, command.output)
                process.way = "forked"
                return process
            if not found.stale:
                return None
        self._expect(key, command.argv, shared)
        return None

    def take(self, handed: Mapping[str, Any]) -> None:
        """Use a template that was loaded before this agent ran. Raises OSError if there is none."""
        if not self._can_fork():
            return
        found = Template.handed(handed["program"][0], handed["descriptor"], handed["pid"])
        program, preload = tuple(handed["program"]), tuple(handed.get("preload", ()))
        self._templates[program, frozenset(handed["environ"].items()), "/", preload] = found

    def _note_spawned(self, program: str, why: str) -> None:
        if (program, why) not in self._spawned:
            self._spawned.add((program, why))
            say("kernels of {} are spawned: {}".format(program, why))

    def _is_expected(self, key: Key) -> bool:
        """Whether a kernel of this environment has been started before."""
        found = self._templates.get(key)
        return key in self._coming or (found is not None and not found.over)

    def _expect(self, key: Key, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        """Load a template soon, for the next kernel."""

        def load() -> None:
            try:
                self._template(key, argv, environ)
            except OSError as error:
                say("cannot start a template: {}".format(error))

        loop = asyncio.get_running_loop()
        self._coming[key] = loop.call_later(LOAD_AFTER_SECONDS, load)

    def _template(self, key: Key, argv: Sequence[str], environ: Mapping[str, str]) -> Template:
        """The template; starts to load it if there is none. Raises OSError."""
        coming = self._coming.pop(key, None)
        if coming is not None:
            coming.cancel()
        found = self._templates.pop(key, None)
        if found is None or found.over:
            program, _, cwd, preload = key
            found = Template.spawn(program, argv, environ, cwd, preload)
        self._templates[key] = found  # the last is the one used last
        for old in list(self._templates)[:-MOST_TEMPLATES]:
            if not self._templates[old].busy:
                self._templates.pop(old).close()
        return found

    @property
    def pids(self) -> Set[int]:
        """The processes that are not to be reaped by anybody else."""
        return {each.pid for each in self._templates.values()}

    def _can_fork(self) -> bool:
        if self._able is None:
            self._able = adopt_orphans()
            if not self._able:
                say("kernels are spawned, not forked: this system has no subreaper")
        return self._able

    def close(self) -> None:
        """End all templates."""
        for coming in self._coming.values():
            coming.cancel()
        self._coming.clear()
        closed = list(self._templates.values())
        for each in closed:
            each.close()
        self._templates.clear()
        deadline = time.monotonic() + _KILL_SECONDS
        while not all(each.has_ended for each in closed) and time.monotonic() < deadline:
            select.select([], [], [], 0.001)  # time.sleep fails where the clock is a faked one


def _give_up(process: KernelProcess) -> None:
    """A kernel runs at last, but nobody wants it any more."""
    process.signal(signal.SIGKILL)
