"""Errors of starts for kernelspecs whose environment is gone from the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

from ..errors import KernelStartError, ProgramNotFoundError

P = ParamSpec("P")
T = TypeVar("T")

#: As environments/kernelspec.py writes it.
_SECTION = "remote_provisioners"


def tells_what_is_gone(
    method: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let the error of a provisioner's start say what has become of the environment."""

    @functools.wraps(method)
    async def started(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except KernelStartError as error:
            provisioner: Any = args[0]
            spec = provisioner.kernel_spec
            said = _advice(spec.metadata, isinstance(error, ProgramNotFoundError))
            if said:
                raise type(error)(f"{error.message}\n{said}", host=error.host) from None
            raise

    return started


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
