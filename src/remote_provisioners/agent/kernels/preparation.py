"""What a start request means on this host: the program, its environment and its directory.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
from typing import Awaitable, Callable, Dict, FrozenSet, List, Mapping, NamedTuple

from ...protocol.agent_requests import Start
from .. import apart
from ..channels.endpoints import connection_file
from ..processes.kernel_process import OUTPUT, Command
from . import environment, history

#: Returns the environment that kernels start from, after the hook of this text.
BaseEnvironment = Callable[[str], Awaitable[Mapping[str, str]]]


class Preparation(NamedTuple):
    """A kernel's command, without what depends on the kernel's own directory."""

    #: The first word is the program's path on this host. The others may have placeholders.
    argv: List[str]
    environ: Dict[str, str]
    #: The variables whose values name this kernel.
    private: FrozenSet[str]
    #: The values of placeholders.
    values: Dict[str, str]
    cwd: str

    async def with_history(self) -> Preparation:
        """The same for a spawned process, whose history must be usable."""
        return self._replace(argv=await history.usable(self.argv, self.environ))

    def command(self, directory: str, more: Mapping[str, str]) -> Command:
        """The command of the kernel in this directory, with `more` variables."""
        values = {**self.values, "connection_file": connection_file(directory)}
        environ = dict(self.environ)
        for name in self.private:
            environ[name] = environment.substitute(environ[name], values)
        environ.update(more)
        argv = [environment.substitute(word, values) for word in self.argv]
        return Command(argv, environ, self.cwd, os.path.join(directory, OUTPUT))


async def prepare(request: Start, base: BaseEnvironment, resource_directory: str) -> Preparation:
    """Find out what `request` means here. Raises CommandError, RefusedError, OSError."""
    environ = environment.kernel_environment(
        await base(request.hook), request.env, request.request_env
    )
    values = {**request.substitutions, "resource_dir": resource_directory}
    argv = await _locate(request, resource_directory, values, environ)
    private = frozenset(
        name
        for name in request.env.keys() - request.request_env.keys()
        if environment.has_placeholder(environ[name])
    )
    home = os.path.expanduser("~")
    cwd = await apart.run(
        ", ".join([*request.cwd, home]),
        lambda: environment.working_directory(request.cwd, home),
    )
    return Preparation(argv, environ, private, values, cwd)


async def _locate(
    request: Start,
    resource_directory: str,
    values: Mapping[str, str],
    environ: Mapping[str, str],
) -> List[str]:
    """argv with the program's path on this host. Raises CommandError, OSError."""

    def locate() -> List[str]:
        there = (request.resources_from, resource_directory)
        argv = [environment.travelled(word, *there) for word in request.argv]
        argv = [environment.substitute(word, values) for word in argv]
        return environment.resolve_command(argv, request.python, environ)

    looked = [*request.argv[:1], request.python, "PATH"]
    return await apart.run(", ".join(filter(None, looked)), locate)
