"""Looks for interpreters and kernelspecs, in a thread and within a limited time. Runs nothing.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ...protocol.answers import FoundEnvironments, FoundInterpreter, FoundKernelspec
from . import kernelspecs, languages, modules, places, prefixes

#: The probe ends itself after this time, and is not waited for any longer than the other.
SECONDS = 1.5
_WAIT_SECONDS = 1.8


class OutOfTimeError(Exception):
    """The probe has looked for long enough."""


class Probe:
    """What has been found. It may be read at any time."""

    def __init__(
        self,
        environ: Mapping[str, str],
        home: str,
        directories: Sequence[str] = (),
        seconds: float = SECONDS,
    ) -> None:
        """`environ`: the environment that kernels start from. `directories`: to look there too."""
        self._environ = environ
        self._home = home
        self._directories = directories
        self._began = time.monotonic()
        self._deadline = self._began + seconds
        self._left: List[str] = []
        self._seconds: Optional[float] = None
        #: By prefix, language and version, and by real paths: nothing is found twice.
        self._interpreters: Dict[Tuple[str, str, str], FoundInterpreter] = {}
        self._kernelspecs: Dict[str, FoundKernelspec] = {}
        self._seen: Set[str] = set()

    def found(self) -> FoundEnvironments:
        seconds = self._seconds
        return FoundEnvironments(
            interpreters=list(self._interpreters.values()),
            kernelspecs=list(self._kernelspecs.values()),
            seconds=time.monotonic() - self._began if seconds is None else seconds,
            unfinished=list(self._left),
        )

    def run(self) -> None:
        """Look everywhere, the likely places first."""
        steps = [
            *(
                ("directory " + directory, self._named(directory))
                for directory in self._directories
            ),
            ("the PATH", self._path()),
            ("conda environments", places.conda_prefixes(self._environ, self._home)),
            ("pyenv's versions", places.pyenv_prefixes(self._environ, self._home)),
            ("kernelspecs", self._kernelspecs_of_all()),
            ("Julia's versions", self._julias()),
            ("modules", self._modules()),
            ("venvs", places.venv_prefixes(self._environ, self._home)),
        ]
        self._left = [name for name, _ in steps]
        for _, candidates in steps:
            try:
                for candidate in candidates:
                    self._look_at(candidate)
            except OutOfTimeError:
                break
            del self._left[0]
        self._seconds = time.monotonic() - self._began

    def _named(self, directory: str) -> Iterator[str]:
        for candidate in places.named_prefixes(directory, self._home):
            yield candidate
            program = prefixes.python_of(candidate)
            if program and not prefixes.is_venv(candidate) and not prefixes.is_conda(candidate):
                yield from self._prefix_of(program)
            self._read_kernelspecs(candidate, "")  # it may be a data directory itself

    def _path(self) -> Iterator[str]:
        """The prefixes of the programs on PATH."""
        for name, program in places.programs_on_path(self._environ, ("R", "julia")):
            self._check_time()
            if name == "R":
                self._add(languages.r_of(program, self._environ, self._home))
            elif name == "julia":
                self._add(languages.julia_of(program, self._home))
            elif not _is_script(program):  # as pyenv's shims are
                yield from self._prefix_of(program)

    def _prefix_of(self, program: str) -> Iterator[str]:
        prefix = os.path.dirname(os.path.dirname(program))
        if prefixes.is_venv(prefix) or prefixes.is_conda(prefix):
            yield prefix
            return
        real = os.path.realpath(program)
        prefix = os.path.dirname(os.path.dirname(real))
        if prefixes.is_venv(prefix) or prefixes.is_conda(prefix):
            yield prefix
        elif real not in self._seen:
            self._seen.add(real)
            self._add(prefixes.of_python(prefix, real, self._home))
            self._read_kernelspecs(prefix + "/share/jupyter", prefix)

    def _look_at(self, prefix: str) -> None:
        """Add what is in `prefix`, if it is one. Raises OutOfTimeError."""
        self._check_time()
        if not os.path.isabs(prefix) or "\0" in prefix:
            return  # a file that lists them may contain anything
        real = os.path.realpath(prefix)
        if real in self._seen:
            return
        if prefixes.is_conda(real):
            self._seen.add(real)
            for found in prefixes.of_conda(real, self._environ):
                self._add(found)
        elif prefixes.is_venv(real):
            self._seen.add(real)
            self._add(prefixes.of_venv(real, self._home))
        elif os.path.basename(os.path.dirname(real)) == "versions" and prefixes.python_of(real):
            yielded = os.path.realpath(prefixes.python_of(real))  # of pyenv
            if yielded not in self._seen:
                self._seen.add(yielded)
                self._add(prefixes.of_python(real, prefixes.python_of(real), self._home))
        else:
            return
        self._read_kernelspecs(real + "/share/jupyter", real)

    def _modules(self) -> Iterator[str]:
        """What modules add to PATH. It has a module's name, as the module sets more than PATH."""
        for directory in modules.module_paths(self._environ):
            for path, binaries in modules.modules_in(directory):
                left = self._deadline - time.monotonic()
                there = Probe({"PATH": binaries}, self._home, (), left)
                for candidate in there._path():
                    there._look_at(candidate)
                for found in list(there._interpreters.values())[:1]:
                    found.kind, found.path = "module", path
                    found.name = modules.directory_and_name(path)[1]
                    self._add(found)
        yield from ()

    def _julias(self) -> Iterator[str]:
        for program in languages.julia_programs(self._home):
            self._add(languages.julia_of(program, self._home))
        yield from ()

    def _kernelspecs_of_all(self) -> Iterator[str]:
        """Those of the user and of the system. The first of a name hides others, as in Jupyter."""
        names: Set[str] = set()
        for directory in kernelspecs.directories(self._environ, self._home):
            self._check_time()
            for found in kernelspecs.kernelspecs_in(directory, "", self._environ):
                if found.name not in names:
                    names.add(found.name)
                    self._add_kernelspec(found)
        yield from ()

    def _read_kernelspecs(self, directory: str, prefix: str) -> None:
        if os.path.realpath(directory) not in ("/usr/share/jupyter", "/usr/local/share/jupyter"):
            for found in kernelspecs.kernelspecs_in(directory, prefix, self._environ):
                self._add_kernelspec(found)

    def _add_kernelspec(self, found: FoundKernelspec) -> None:
        places = [os.path.dirname(os.path.dirname(found.program)), found.prefix]
        for place in filter(None, places):
            if prefixes.is_conda(place) or prefixes.is_venv(place):
                found.environment = place
                found.environment_kind = "conda" if prefixes.is_conda(place) else "venv"
                break
        self._kernelspecs.setdefault(os.path.realpath(found.path), found)

    def _add(self, found: Optional[FoundInterpreter]) -> None:
        if found is not None:
            self._interpreters.setdefault((found.path, found.language, found.version), found)

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise OutOfTimeError


async def find_environments(
    environ: Mapping[str, str], directories: Sequence[str]
) -> FoundEnvironments:
    """What could run kernels here.

    A thread looks, which nobody waits for when it hangs in a dead file system. It is a daemon, so
    the agent can end meanwhile.
    """
    probe = Probe(environ, environ.get("HOME") or os.path.expanduser("~"), directories)
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def look() -> None:
        try:
            probe.run()
        finally:
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                pass  # the agent has ended

    threading.Thread(target=look, daemon=True, name="environments").start()
    try:
        await asyncio.wait_for(done.wait(), _WAIT_SECONDS)
    except asyncio.TimeoutError:
        pass
    return probe.found()


def _is_script(program: str) -> bool:
    try:
        with open(program, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True
