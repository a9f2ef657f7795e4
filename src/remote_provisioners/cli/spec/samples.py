"""The sample kernelspecs of this package: each directory of ``kernelspecs/``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_SAMPLE = "python_distributed"

_DIRECTORY = Path(__file__).parents[2] / "kernelspecs"


def samples() -> dict[str, Path]:
    """Every sample by its name."""
    return {file.parent.name: file.parent for file in sorted(_DIRECTORY.glob("*/kernel.json"))}


def write_sample(sample: Path, target: Path, display_name: str, options: Mapping[str, Any]) -> None:
    """Copy a sample to `target`, a new directory, with the provisioner's `options` in it.

    Whoever may read `target` may read what is in it: kernelspecs are installed for others too.
    """
    shutil.copytree(sample, target, ignore=shutil.ignore_patterns("__pycache__"))
    file = target / "kernel.json"
    content = json.loads(file.read_text("utf-8"))
    content["metadata"]["kernel_provisioner"]["config"].update(options)
    content["display_name"] = display_name or content["display_name"]
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
