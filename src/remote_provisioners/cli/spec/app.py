"""``jupyter remote spec``."""

from __future__ import annotations

from ..command import Command

_SPEC = __package__


class SpecApp(Command):
    name = "jupyter-remote-spec"
    description = "Install, list and remove kernelspecs whose kernels run on hosts."
    examples = """
    jupyter remote spec install --user --remote-hosts=host1,host2
    jupyter remote spec list
    jupyter remote spec remove python_distributed
    """
    subcommands = {  # noqa: RUF012
        "install": (
            f"{_SPEC}.install.SpecInstallApp",
            "Install a sample kernelspec for a set of hosts.",
        ),
        "list": (
            f"{_SPEC}.list.SpecListApp",
            "List the installed kernelspecs whose kernels run on hosts.",
        ),
        "remove": (f"{_SPEC}.remove.SpecRemoveApp", "Remove one of them."),
    }
