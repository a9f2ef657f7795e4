"""``jupyter remote refresh``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from traitlets import Bool

from ...environments.adding import Adding, Result
from ...environments.refreshing import Refreshing
from ...io_thread import io_thread
from ..command import FAILED, Command, CommandError, Text, meant
from .asking import hosts_named, separated, with_hosts
from .text import show


class RefreshApp(Command):
    name = "jupyter-remote-refresh"
    description = """Update kernelspecs that `jupyter remote add` has made of environments.

    Usage: jupyter remote refresh [HOST...] [--directory=DIR,...] [--json]

    Without a HOST, it asks all hosts of these kernelspecs.

    Environments that are new since `jupyter remote add` become kernelspecs, next to the others.
    Those that you did not choose then do not. Kernelspecs are updated where the version or the
    activation has changed. Where an environment is gone from one of several hosts, the host is
    taken out. Where it is gone from all, the title ends in "(gone)". A kernelspec that somebody
    has edited stays as it is. A second refresh changes nothing.

    Exit codes: 0 all hosts have answered, 1 some have not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote refresh
    jupyter remote refresh gpu1 gpu2
    """
    aliases = Command.aliases | {"directory": "RefreshApp.directory"}
    flags = Command.flags | {"json": ({"RefreshApp": {"json_output": True}}, "Print JSON.")}
    reads_hosting_config = True

    directory = Text(help="Directories of the hosts to look into as well, comma-separated.").tag(
        config=True
    )
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def run(self) -> int:
        result = with_hosts(self._refresh(self.words(None, "hosts")))
        show(result, self.json_output)
        return FAILED if result.errors else 0

    async def _refresh(self, names: Sequence[str]) -> Result:
        manager, call = KernelSpecManager(parent=self), io_thread().call
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
        return await refreshing.refresh(specs, where, separated(self.directory))
