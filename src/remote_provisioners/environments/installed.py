"""Reads and writes the kernelspecs of environments on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from ..errors import ConfigurationError
from ..json_file import replace
from .host_entry import Entry, name_of
from .kernelspec import SECTION, Files, digest, file_digests, signed

FILE = "kernel.json"
_FOR_EVERYBODY = 0o644


@dataclass(frozen=True)
class InstalledEnvironment:
    """A kernelspec here. `edited`: somebody has changed it since it was written."""

    name: str
    directory: Path
    content: Mapping[str, Any]
    edited: bool
    files: Mapping[str, str]

    @property
    def section(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content["metadata"][SECTION]
        return found

    @property
    def key(self) -> str:
        return str(self.section["environment"]["key"])

    @property
    def title(self) -> str:
        return str(self.content.get("display_name", self.name))

    @property
    def entries(self) -> Sequence[Entry]:
        config = self.content["metadata"]["kernel_provisioner"]["config"]
        listed: Sequence[Entry] = config["remote_hosts"]
        return listed

    @property
    def hosts(self) -> list[str]:
        return [name_of(entry) for entry in self.entries]

    @property
    def gone(self) -> bool:
        return bool(self.section.get("gone"))


def installed_environments(manager: KernelSpecManager) -> list[InstalledEnvironment]:
    """All installed kernelspecs of environments, sorted by name."""
    found = sorted(manager.find_kernel_specs().items())
    return [read for name, path in found if (read := read_environment(name, Path(path)))]


def kernelspecs_here(manager: KernelSpecManager) -> dict[tuple[str, str], str]:
    """The names of the environments' kernelspecs, by host and key."""
    return {
        (host, each.key): each.name
        for each in installed_environments(manager)
        if not each.gone
        for host in each.hosts
    }


def read_environment(name: str, directory: Path) -> InstalledEnvironment | None:
    """The kernelspec in `directory`; None if `add` has not made it."""
    try:
        content = json.loads((directory / FILE).read_text("utf-8"))
        section = content["metadata"][SECTION]
        written, _ = section["written"], section["environment"]["key"]
        files = {
            str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name != FILE
        }
        edited = digest(content, files) != written
        found = InstalledEnvironment(name, directory, content, edited, files)
        _ = found.hosts
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # unreadable, or without our section
    return found


def check_files(files: Files) -> None:
    """Refuse paths that lead out of a kernelspec's directory. Raises ConfigurationError."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or name in ("", ".", FILE):
            raise ConfigurationError(f"the host has sent a file with the forbidden path {name!r}")


def write_environment(
    directory: Path, content: Mapping[str, Any], files: Files, programs: frozenset[str]
) -> None:
    """Write a kernelspec as a whole. Replaces an earlier one. Raises OSError.

    Everybody may read the files, because other users use kernelspecs, too.
    """
    check_files(files)
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=directory.parent))
    try:
        for name, data in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if name in programs else _FOR_EVERYBODY)
        replace(made / FILE, signed(content, file_digests(files)), _FOR_EVERYBODY)
        for path in (made, *(p for p in made.rglob("*") if p.is_dir())):
            path.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        made.rename(directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def rewrite(installed: InstalledEnvironment, content: Mapping[str, Any]) -> None:
    """Replace the kernel.json and keep the files. Raises OSError."""
    replace(installed.directory / FILE, signed(content, installed.files), _FOR_EVERYBODY)
