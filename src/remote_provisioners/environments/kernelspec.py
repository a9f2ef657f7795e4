"""The content of an environment's kernelspec. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from .environment import Environment
from .host_entry import Entry, name_of

#: The key in a kernelspec's metadata that names its environment.
SECTION = "remote_provisioners"
_PROVISIONER = "kernel_provisioner"
_KNOWN = frozenset(KernelSpec.class_trait_names())
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Offer:
    """An environment on a host, with everything for its kernelspec."""

    entry: Entry
    environment: Environment
    #: The variables of its activation, and the scripts that set some of them.
    activation: Mapping[str, str] = field(default_factory=dict)
    scripts: Sequence[str] = ()
    files: Files = field(default_factory=dict)
    programs: frozenset[str] = frozenset()

    @property
    def host(self) -> str:
        return name_of(self.entry)

    @property
    def design(self) -> str:
        """Equal for environments that one kernelspec with several hosts can represent."""
        kernelspec = content(self, "", [])
        section = kernelspec["metadata"].pop(SECTION)
        return _canonical([kernelspec, section["environment"], file_digests(self.files)])

    def about_host(self) -> dict[str, str]:
        """The properties that may differ between the hosts of one kernelspec."""
        found = self.environment
        versions = {"version": found.version, "package_version": found.package_version or ""}
        return {name: version for name, version in versions.items() if version}


def content(
    offer: Offer,
    display_name: str,
    entries: Sequence[Entry],
    hosts: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """The kernel.json of an environment on these hosts. `hosts`: about each of them."""
    found, taken_over = offer.environment, dict(offer.environment.spec)
    metadata = dict(taken_over.pop("metadata", None) or {})
    metadata.pop(_PROVISIONER, None)
    if found.package == "ipykernel":
        metadata.setdefault("debugger", True)
    metadata[_PROVISIONER] = {
        "provisioner_name": "distributed-provisioner",
        "config": {"remote_hosts": list(entries)},
    }
    metadata[SECTION] = {
        "environment": {
            "key": found.key,
            "kind": found.kind,
            "name": found.name,
            "title": found.title,
            "path": found.path,
            "package": found.package,
        },
        "hosts": {name: dict(about) for name, about in (hosts or {}).items()},
        "activation_scripts": list(offer.scripts),
    }
    return {
        "argv": list(found.argv),
        "env": _environment(offer.activation, taken_over.pop("env", None) or {}),
        "display_name": display_name,
        "language": found.language,
        # jupyter_client warns of others, such as bash_kernel's codemirror_mode.
        **{name: value for name, value in taken_over.items() if name in _KNOWN},
        "metadata": metadata,
    }


def _environment(activation: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, str]:
    """The variables of the activation, then the kernelspec's own, which may refer to them."""
    merged = dict(activation)
    for name, value in own.items():
        earlier = activation.get(name)
        text = str(value)
        merged[name] = text if earlier is None else text.replace("${" + name + "}", earlier)
    return merged


def file_digests(files: Files) -> dict[str, str]:
    return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}


def digest(kernelspec: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Identifies the written content. `files`: the digest of each file."""
    metadata = dict(kernelspec.get("metadata") or {})
    if isinstance(metadata.get(SECTION), dict):
        metadata[SECTION] = {k: v for k, v in metadata[SECTION].items() if k != "written"}
    text = _canonical([{**kernelspec, "metadata": metadata}, dict(files)])
    return hashlib.sha256(text.encode()).hexdigest()


def signed(kernelspec: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """The kernelspec with its digest. The digest shows later changes by hand."""
    metadata = dict(kernelspec["metadata"])
    metadata[SECTION] = {**metadata[SECTION], "written": digest(kernelspec, files)}
    return {**kernelspec, "metadata": metadata}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
