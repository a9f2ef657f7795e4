"""The result of `add` and `refresh`, as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...environments.adding import Result
from ...environments.plan import EDITED, GONE_NOW, NEW, Change
from ..command import Command
from ..table import columns


def show(command: Command, result: Result, as_json: bool) -> None:
    """Print the changes, and the errors on stderr."""
    if as_json:
        print(json.dumps(_as_json(result), indent=2))
        return
    print("\n".join(_lines(result.changes)))
    for error in result.errors:
        command.complain(error)


def _lines(changes: Sequence[Change]) -> list[str]:
    """One line for each change, and notes about what is not obvious."""
    if not changes:
        return ["Nothing to do"]
    said = columns([(change.kind, change.name, change.title) for change in changes])
    for change in changes:
        if change.kind == NEW and change.offer is not None and change.offer.scripts:
            scripts = ", ".join(change.offer.scripts)
            said.append(
                f"{change.name}: the variables of {scripts} are stored; a start runs no script"
            )
    if any(change.kind == EDITED for change in changes):
        said.append("Somebody has changed the kernelspecs marked `edited`. They stay as they are.")
    gone = [change.name for change in changes if change.kind == GONE_NOW]
    said += [f"To remove it: jupyter remote spec remove {name}" for name in gone]
    return said


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "kernelspecs": [change.as_json() for change in result.changes],
        "errors": [str(error) for error in result.errors],
    }
