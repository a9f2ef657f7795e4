"""``jupyter remote add``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from traitlets import Bool, Unicode

from ...environments.adding import Adding, Result
from ...environments.survey import HostEnvironments
from ...io_thread import io_thread
from ...options.kinds import separated
from ..command import FAILED, MISUSED, Command, CommandError, Text
from ..kernelspecs import kernels_directory, kernelspec_manager, place_flags
from ..waiting import Waiting
from .asking import environments_as_found, hosts_named, in_order, with_hosts
from .choosing import Candidate, candidates, chosen_by_answer, chosen_by_name, menu
from .text import show


class AddApp(Command):
    name = "jupyter-remote-add"
    description = """Make kernelspecs of the environments of hosts.

    Usage: jupyter remote add HOST[,HOST...] [NAME...] [options]

    NAME is an environment's name, title or path in the list of `jupyter remote scan`. Without a
    NAME, the command lists all environments that can run kernels, and asks which to add. If several
    hosts have an environment at the same path, it becomes one kernelspec with several hosts.

    The kernelspec contains the variables that activate the environment, so a start runs no
    activation. The command runs conda's scripts in etc/conda/activate.d once, on the host, and
    stores the variables that they set. It does the same with `module load`.

    The kernelspecs are for all users of the machine, as with `jupyter kernelspec install`. To
    install elsewhere, give --user, --sys-prefix or --prefix.

    Exit codes: 0 all were added, 1 some were not, 2 the command line is wrong.
    """
    examples = """
    jupyter remote add gpu1 --user                 # asks which
    jupyter remote add gpu1 torch R --user
    jupyter remote add gpu1,gpu2,gpu3 --all --sys-prefix
    """
    aliases = Command.aliases | {"directory": "AddApp.directory", "prefix": "AddApp.prefix"}
    flags = (
        Command.flags
        | place_flags("AddApp")
        | {
            "all": ({"AddApp": {"all_": True}}, "Add all that can run kernels. Ask nothing."),
            "json": ({"AddApp": {"json_output": True}}, "Print JSON."),
        }
    )
    reads_hosting_config = True

    directory = Text(help="More directories on the hosts to look in, comma-separated.").tag(
        config=True
    )
    prefix = Unicode(help="Install into PREFIX/share/jupyter/kernels.").tag(config=True)
    user = Bool(False).tag(config=True)
    sys_prefix = Bool(False).tag(config=True)
    all_ = Bool(False).tag(config=True)
    json_output = Bool(False, help="Print JSON.").tag(config=True)

    def run(self) -> int:
        words = self.words(None, "a HOST and NAMEs")
        if not words:
            raise CommandError("name a HOST (jupyter remote hosts lists them)", MISUSED)
        if self.all_ and words[1:]:
            raise CommandError("give NAMEs or --all, not both", MISUSED)
        manager = kernelspec_manager(self)
        where = kernels_directory(manager, self.user, self.sys_prefix, self.prefix)
        result = with_hosts(self._add(words[0], words[1:], manager, where))
        show(self, result, self.json_output)
        self._warn(manager, where, result)
        return FAILED if result.errors else 0

    async def _add(
        self, hosts: str, names: Sequence[str], manager: KernelSpecManager, where: Path
    ) -> Result:
        call = io_thread().call
        specs = hosts_named(self, separated(hosts))
        search = separated(self.directory)
        found = in_order([each async for each in environments_as_found(specs, search)], specs)
        answered = [host for host in found if host.error is None]
        result = Result(errors=[host.error for host in found if host.error is not None])
        for host in answered:
            for place in host.unfinished:
                text = f"host {host.host.name}: there was no time to look in {place}"
                print(text, file=sys.stderr)
        if answered:
            chosen = self._chosen(answered, names)
            of_hosts = [
                (host, [c.environment for c in chosen if host.host.name in c.hosts])
                for host in answered
            ]
            async with Waiting(host.host.name for host, wanted in of_hosts if wanted):
                adding = Adding(manager, self.config, call)
                added = await adding.add(of_hosts, where, search=search)
            result = Result(added.changes, [*result.errors, *added.errors])
        return result

    def _chosen(self, hosts: Sequence[HostEnvironments], names: Sequence[str]) -> list[Candidate]:
        listed = candidates(hosts)
        if names:
            return chosen_by_name(hosts, listed, names)
        if not listed:
            scan = f"jupyter remote scan {hosts[0].host.name}"
            raise CommandError(f"no environment there can run kernels. To see why: {scan}")
        if self.all_:
            return listed
        print("\n".join(menu(listed)), file=sys.stderr)
        print(
            "Add which? (numbers or names, all, none) [all] ", end="", file=sys.stderr, flush=True
        )
        try:
            answer = input()
        except EOFError:
            print(file=sys.stderr)
            raise CommandError("nobody answers: name environments, or use --all", MISUSED) from None
        return chosen_by_answer(listed, answer)

    def _warn(self, manager: KernelSpecManager, where: Path, result: Result) -> None:
        written = any(change.written for change in result.changes)
        if written and str(where) not in map(str, manager.kernel_dirs):
            text = "Jupyter does not look in {}. To use the kernelspecs, add {} to JUPYTER_PATH"
            print(text.format(where, where.parent), file=sys.stderr)
