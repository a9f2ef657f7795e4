"""``jupyter remote refresh``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from traitlets import Bool

from ...environments.adding import Adding, Result
from ...environments.refreshing import Refreshing
from ...io_thread import io_thread
from ...options.kinds import separated
from ..command import FAILED, Command, CommandError, Text, meant
from ..kernelspecs import kernelspec_manager
from ..waiting import Waiting
from .asking import hosts_named, with_hosts
from .text import show


class RefreshApp(Command):
    name = "jupyter-remote-refresh"
    description = """Update the kernelspecs that `jupyter remote add` has made.

    Usage: jupyter remote refresh [HOST...] [--directory=DIR,...] [--json]

    Without a HOST, it asks all hosts of these kernelspecs.

    New environments become kernelspecs, next to the others. Environments that you did not choose
    at `jupyter remote add` are not new. If an environment's version or activation has changed, its
    kernelspec is updated. If the environment is gone from one of several hosts, the kernelspec
    loses this host. If it is gone from all, the title ends in "(gone)". Edited kernelspecs stay as
    they are. A second refresh changes nothing.

    Exit codes: 0 all hosts have answered, 1 some have not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote refresh
    jupyter remote refresh gpu1 gpu2
    """
    aliases = Command.aliases | {"directory": "RefreshApp.directory"}
    flags = Command.flags | {"json": ({"RefreshApp": {"json_output": True}}, "Print JSON.")}
    reads_hosting_config = True

    directory = Text(help="More directories on the hosts to look in, comma-separated.").tag(
        config=True
    )
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def run(self) -> int:
        result = with_hosts(self._refresh(self.words(None, "hosts")))
        show(self, result, self.json_output)
        return FAILED if result.errors else 0

    async def _refresh(self, names: Sequence[str]) -> Result:
        manager, call = kernelspec_manager(self), io_thread().call
        refreshing = Refreshing(manager, Adding(manager, self.config, call), call)
        known = refreshing.hosts
        for name in names:
            if name not in known:
                raise CommandError(
                    f"no kernelspec was made of an environment of {name!r}{meant(name, known)}\n"
                    f"To make some: jupyter remote add {name}"
                )
        if not known:
            raise CommandError(
                "no kernelspec was made of an environment yet\n"
                "To make some: jupyter remote add HOST"
            )
        specs = hosts_named(self, names or known)
        where = refreshing.directory(names or known, Path(manager.user_kernel_dir))
        async with Waiting(spec.name for spec in specs) as waiting:
            return await refreshing.refresh(
                specs, where, separated(self.directory), waiting.answered
            )
