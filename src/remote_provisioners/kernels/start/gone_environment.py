"""Errors of starts for kernelspecs whose environment is gone from the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import KernelStartError, ProgramNotFoundError, RemoteProvisionerError

#: As environments/kernelspec.py writes it.
_SECTION = "remote_provisioners"


def told_what_is_gone(
    error: RemoteProvisionerError, metadata: Mapping[str, Any]
) -> RemoteProvisionerError:
    """The error of a start, which says what has become of the kernelspec's environment."""
    if isinstance(error, KernelStartError):
        said = _advice(metadata, isinstance(error, ProgramNotFoundError))
        if said:
            return type(error)(f"{error.message}\n{said}", host=error.host)
    return error


def _advice(metadata: Mapping[str, Any], no_program: bool) -> str:
    """What to do, "" if the kernelspec was not made of an environment, or that is not gone."""
    section = metadata.get(_SECTION)
    if not isinstance(section, Mapping):
        return ""
    path = (section.get("environment") or {}).get("path", "")
    if section.get("gone"):
        return (
            f"Its environment {path} was gone at the last `jupyter remote refresh`\n"
            "If it is back: jupyter remote refresh"
        )
    if no_program:
        return f"Its environment {path} may be gone. To find out: jupyter remote refresh"
    return ""
