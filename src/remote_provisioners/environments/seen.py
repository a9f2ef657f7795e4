"""The environments that `add` has shown to the user. Only others are new."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from .. import json_file


@dataclass
class SeenOnHost:
    """The keys of the environments, and the directory of their kernelspecs.

    `search`: directories of the host that the user has named.
    """

    directory: str = ""
    keys: set[str] = field(default_factory=set)
    search: set[str] = field(default_factory=set)


class SeenEnvironments:
    """The record of the user of this process, in Jupyter's data directory."""

    def __init__(self) -> None:
        self._path = Path(jupyter_data_dir(), "remote-provisioners", "environments.json")
        self._hosts: dict[str, SeenOnHost] = {}
        try:
            hosts = json.loads(self._path.read_text("utf-8"))["hosts"]
            for name, of in hosts.items():
                seen, search = (set(map(str, of[key])) for key in ("seen", "search"))
                self._hosts[name] = SeenOnHost(str(of["directory"]), seen, search)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._hosts = {}  # none yet, or damaged: the kernelspecs show what was added

    def of(self, host: str) -> SeenOnHost | None:
        """None if `add` was never used with this host."""
        return self._hosts.get(host)

    def note(self, host: str, directory: Path, keys: Iterable[str], search: Iterable[str]) -> None:
        seen = self._hosts.setdefault(host, SeenOnHost())
        seen.directory = str(directory)
        seen.keys |= set(keys)
        seen.search |= set(search)

    def save(self) -> None:
        """Raises OSError."""
        hosts = {
            name: {
                "directory": of.directory,
                "seen": sorted(of.keys),
                "search": sorted(of.search),
            }
            for name, of in sorted(self._hosts.items())
        }
        json_file.replace(self._path, {"hosts": hosts})
