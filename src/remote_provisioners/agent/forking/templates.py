"""Fork kernels: one template process for each interpreter and environment, started when needed.

Kernels that cannot be forked are spawned (fork and exec). So is the first kernel of an environment,
because it would wait longer for its template. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from types import ModuleType
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

from ...protocol.wire import Message
from ..machine import gpus as devices
from ..processes.kernel_process import Command, KernelProcess, open_output
from . import template, template_files, template_memory, template_messages
from .template_connection import receive, send

#: The parts of a template's program; a later part uses the earlier ones.
PARTS: Tuple[ModuleType, ...] = (template_messages, template_files, template_memory, template)
#: A template that is not used any more still takes 45 MB of memory.
MOST_TEMPLATES = 4
#: A template is loaded this long after its environment's first kernel, so as not to slow it down.
LOAD_AFTER_SECONDS = 1.0
LOAD_SECONDS = 15.0
FORK_SECONDS = 10.0
RETRY_SECONDS = 60.0

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_FLAG = re.compile(r"-([bBdEIOPqRsSu]+|[XW].+)")
_MODULES = ("ipykernel_launcher", "ipykernel")
_SCRIPT = "launch_ipykernel.py"
#: Variables of one kernel, which do not count when kernels share an environment.
_PRIVATE = re.compile("KERNEL_.*|JPY_SESSION_NAME|RP_LAUNCH_SECRET|{}".format(devices.VARIABLE))
#: Variables that an interpreter reads when it starts.
_EARLY = re.compile("PYTHON.*|LD_.*")
_PR_SET_CHILD_SUBREAPER = 36
_LENGTH = struct.Struct(">I")


def flags_of(argv: Sequence[str]) -> Optional[List[str]]:
    """The interpreter's flags in `argv`; None if this kernel cannot be forked.

    Only commands that run ipykernel can: ``python [flags] -m ipykernel_launcher …`` or
    ``python [flags] …/launch_ipykernel.py …``.
    """
    if not _PYTHON.fullmatch(os.path.basename(argv[0])):
        return None
    flags: List[str] = []
    words = list(argv[1:])
    while words and words[0] != "-m" and words[0].startswith("-"):
        takes_word = words[0] in ("-X", "-W")
        if not takes_word and not _FLAG.fullmatch(words[0]):
            return None
        flags += words[: 1 + takes_word]
        del words[: 1 + takes_word]
    if words[:1] == ["-m"]:
        return flags if words[1:2] and words[1] in _MODULES else None
    return flags if words and os.path.basename(words[0]) == _SCRIPT else None


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
        return KernelProcess.spawn(command) if forked is None else forked

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
        if _is_relative(shared.get("PYTHONPATH", "")):
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

    def _note_spawned(self, program: str, why: str) -> None:
        if (program, why) not in self._spawned:
            self._spawned.add((program, why))
            print("kernels of {} are spawned: {}".format(program, why), flush=True)

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
                print("no template: {}".format(error), flush=True)

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
            found = Template(program, argv, environ, cwd, preload)
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
            self._able = _adopt_orphans()
            if not self._able:
                print("kernels are spawned, not forked: this system has no subreaper", flush=True)
        return self._able

    def close(self) -> None:
        """End all templates."""
        for coming in self._coming.values():
            coming.cancel()
        self._coming.clear()
        for each in self._templates.values():
            each.close()
        self._templates.clear()


def shared_part(environ: Mapping[str, str], private: FrozenSet[str]) -> Dict[str, str]:
    """The variables that kernels share: without those of one kernel, and without `private`."""
    return {
        name: value
        for name, value in environ.items()
        if name not in private and not _PRIVATE.fullmatch(name)
    }


def has_own_interpreter(private: FrozenSet[str]) -> bool:
    """Whether `private` has a variable that an interpreter reads when it starts.

    `private`: the variables of the environment whose values name this kernel. Then no other
    kernel's interpreter starts in the same way.
    """
    return any(map(_EARLY.fullmatch, private))


def _is_relative(path: str) -> bool:
    """Whether a PYTHONPATH means something else in another directory, as ``:/x`` does."""
    return path != "" and not all(map(os.path.isabs, path.split(os.pathsep)))


def _adopt_orphans() -> bool:
    """Adopt orphaned descendants as our children: that makes a forked kernel our child."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes  # noqa: PLC0415 (takes longer to import than the agent)

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


class Template:
    """A template process and the connection to it. `stale`: a file that it imported has changed."""

    def __init__(
        self,
        program: Sequence[str],
        kernel_argv: Sequence[str],
        environ: Mapping[str, str],
        cwd: str,
        preload: Sequence[str],
    ) -> None:
        """Start the process; it loads on its own. Raises OSError.

        `kernel_argv` is the first kernel's: ours is made as long, so that kernels can show theirs.
        """
        self.stale = False
        self._program = program[0]
        self._failed = ""
        self._failed_at = 0.0
        self._has_forked = False
        self._loop = asyncio.get_running_loop()
        self._connection, theirs = socket.socketpair()
        self._connection.setblocking(False)
        argv = [*program, "-"]
        missing = _size(kernel_argv) - _size(argv)
        program_text = _program_text(theirs.fileno(), preload)
        with theirs:
            self._process = subprocess.Popen(
                argv + (["-" * (missing - 1)] if missing > 0 else []),
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=None,  # the agent's log
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(program_text.encode())
        self._ready = asyncio.ensure_future(self._load())
        self._turn = asyncio.Lock()

    @property
    def over(self) -> bool:
        """Whether it is useless and should be replaced."""
        return self.stale or (
            self._failed != "" and self._loop.time() - self._failed_at > RETRY_SECONDS
        )

    async def _load(self) -> None:
        try:
            said = await asyncio.wait_for(receive(self._connection), LOAD_SECONDS)
            failed = said.get("failed", "")
        except asyncio.TimeoutError:
            failed = "not loaded within {:g} s".format(LOAD_SECONDS)
        except (OSError, EOFError):
            failed = "it ended"
        if failed:
            self._fail(failed)

    def _fail(self, why: str) -> None:
        self._failed, self._failed_at = why, self._loop.time()
        print("kernels of {} are spawned: {}".format(self._program, why), flush=True)
        self.close()

    async def fork(self, command: Command, flags: Sequence[str], waits: bool) -> Optional[int]:
        """Fork a kernel as our child. Returns None if it has to be spawned. Raises OSError."""
        async with self._turn:
            await asyncio.shield(self._ready)
            if self._failed or self.stale:
                return None
            request = {
                "argv": command.argv,
                "flags": flags,
                "env": command.environ,
                "cwd": command.cwd,
                "umask": _umask(),
                "waits": waits,
            }
            log = open_output(command.output)
            try:
                answer = await asyncio.wait_for(
                    self._ask(request, [log, *command.descriptors]), FORK_SECONDS
                )
            except asyncio.TimeoutError:
                self._fail("the template does not answer")
                raise OSError(
                    errno.ETIMEDOUT, "the template does not answer", command.argv[0]
                ) from None
            except (OSError, EOFError) as error:
                if getattr(error, "errno", None) == errno.EBADF:
                    raise  # the start was given up, and its GPUs were released
                if self._has_forked:  # somebody killed it: a new template may work
                    self.stale = True
                    self.close()
                else:
                    self._fail("the template ended")
                return None
            finally:
                os.close(log)
        if "stale" in answer:
            print("template: {} has changed".format(answer["stale"]), flush=True)
            self.stale = True
            self.close()
            return None
        if answer["error"] is not None:
            os.waitpid(answer["pid"], 0)
            raise OSError(*answer["error"])
        self._has_forked = True
        return int(answer["pid"])

    async def _ask(self, request: Message, descriptors: Sequence[int]) -> Message:
        await send(self._connection, request, descriptors)
        return await receive(self._connection)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a kernel from it."""
        return self._turn.locked()

    def close(self) -> None:
        """End it and its successor. Its kernels go on: they have sessions of their own."""
        self._connection.close()
        if self._process.returncode is None:  # until we reap it, its pid names its own group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _program_text(descriptor: int, preload: Sequence[str]) -> str:
    """The program of a template: each of PARTS on one line, as one module, and a call of main."""
    lines = ["program = {'__name__': 'template'}"]
    for part in PARTS:
        source = part.__loader__.get_source(part.__name__)  # type: ignore[union-attr]
        name = part.__name__.rpartition(".")[2]
        lines.append("exec(compile({!r}, {!r}, 'exec'), program)".format(source, name))
    lines.append("program['main']({}, {!r})".format(descriptor, list(preload)))
    return "\n".join(lines) + "\n"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _size(argv: Sequence[str]) -> int:
    """The bytes that `argv` takes in a process's memory."""
    return sum(len(os.fsencode(word)) + 1 for word in argv)
