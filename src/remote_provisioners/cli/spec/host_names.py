"""The hosts of a kernelspec as one text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def host_names(entries: Iterable[Any], separator: str) -> str:
    """`entries` of `remote_hosts`, each by its name. An entry may be a table with properties."""
    names = (entry.get("host") if isinstance(entry, dict) else entry for entry in entries)
    return separator.join(str(name).strip() for name in names)
