"""``jupyter remote spec remove``."""

from __future__ import annotations

from pathlib import Path

from ...options.installed_specs import installed_specs, read_spec
from ..command import MISUSED, Command, CommandError
from ..kernelspecs import kernelspec_manager


class SpecRemoveApp(Command):
    name = "jupyter-remote-spec-remove"
    description = """Remove an installed kernelspec whose kernels run on hosts.

    Usage: jupyter remote spec remove NAME

    To remove other kernelspecs, use `jupyter kernelspec remove`.
    """
    examples = """
    jupyter remote spec remove python_distributed
    """

    def run(self) -> int:
        words = self.words(1, "one NAME")
        if not words:
            raise CommandError("NAME is missing", MISUSED)
        manager, name = kernelspec_manager(self), words[0]
        found = manager.find_kernel_specs()
        if name not in found:
            ours = ", ".join(spec.name for spec in installed_specs(manager)) or "none"
            raise CommandError(f"no kernelspec {name!r} is installed (of this package: {ours})")
        if read_spec(name, Path(found[name])) is None:
            raise CommandError(
                f"{name!r} in {found[name]} does not use a provisioner of this package; "
                f"to remove it: jupyter kernelspec remove {name}"
            )
        try:
            removed = manager.remove_kernel_spec(name)
        except OSError as error:
            raise CommandError(
                f"cannot remove {found[name]}: {error.strerror} (its owner can)"
            ) from None
        print(f"Removed {name} from {removed}")
        return 0
