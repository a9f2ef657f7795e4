"""Kernels of an engine and local ones, for the measures of engines: kernelspecs and replies."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_ARGV = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def write_kernelspecs(data: Path, name: str, stanza: dict[str, Any]) -> None:
    """Write the kernelspec `name` with this `kernel_provisioner` stanza, and one named "local"."""
    for spec, argv, metadata in (
        (name, _ARGV, {"kernel_provisioner": stanza}),
        ("local", [sys.executable, *_ARGV[1:]], {}),
    ):
        directory = data / "kernels" / spec
        directory.mkdir(parents=True)
        content = {"argv": argv, "display_name": spec, "language": "python", "metadata": metadata}
        (directory / "kernel.json").write_text(json.dumps(content))


def answered(manager: Any) -> float:
    """The time of the kernel_info reply."""
    client = manager.client()
    client.start_channels()
    client.kernel_info(reply=True, timeout=60)
    at = time.time()
    client.stop_channels()
    return at
