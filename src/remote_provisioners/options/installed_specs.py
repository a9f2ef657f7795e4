"""The installed kernelspecs that use a provisioner of this package."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from traitlets import TraitError
from traitlets.config import Config

from ..errors import ConfigurationError
from .config import CommonOptions

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class InstalledSpec:
    """A kernelspec that uses this package. `options` is its config stanza."""

    name: str
    display_name: str
    directory: str
    provisioner: str
    options: Mapping[str, Any]

    def configured(self, config: Config) -> CommonOptions:
        """All options of its kernels: the stanza wins over `config`, which wins over RP_ variables.

        Raises ConfigurationError, like the start of a kernel.
        """
        try:
            spec = KernelSpec.from_resource_dir(self.directory)
            provisioner = self.provisioner_class(config=config, kernel_spec=spec, **self.options)
            provisioner.check_options()
        except (OSError, ValueError, TraitError, TypeError) as error:  # it may just be replaced
            raise ConfigurationError(str(error)) from None
        return provisioner

    @property
    def provisioner_class(self) -> type[CommonOptions]:
        (entry,) = (e for e in _provisioners() if e.name == self.provisioner)
        found: type[CommonOptions] = entry.load()
        return found


def installed_specs(manager: KernelSpecManager) -> list[InstalledSpec]:
    """All installed kernelspecs that use this package, by name."""
    found = sorted(manager.find_kernel_specs().items())
    return [spec for name, path in found if (spec := read_spec(name, Path(path))) is not None]


def read_spec(name: str, directory: Path) -> InstalledSpec | None:
    """The kernelspec in `directory` if it uses this package, otherwise None."""
    try:
        content = json.loads((directory / "kernel.json").read_text("utf-8"))
        stanza = content["metadata"]["kernel_provisioner"]
        provisioner, options = stanza["provisioner_name"], stanza.get("config", {})
        display_name = str(content.get("display_name", name))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # unreadable, or without our stanza
    if provisioner not in {entry.name for entry in _provisioners()}:
        return None
    return InstalledSpec(
        name,
        display_name,
        str(directory),
        provisioner,
        options if isinstance(options, dict) else {"config": options},
    )


@functools.cache
def _provisioners() -> list[Any]:
    group = entry_points(group="jupyter_client.kernel_provisioners")
    return [entry for entry in group if entry.value.startswith(f"{_PACKAGE}.")]
