"""What an agent can prepare for a kernel before the server asks for the kernel. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ..placement.inventory import HostSpec
from .launch_request import LaunchRequest


def expected_argv(argv: Sequence[str]) -> list[str]:
    """The interpreter of a kernel, its flags and its module; empty if they depend on the kernel."""
    words = list(argv[: argv.index("-m") + 2]) if "-m" in argv else []
    return [] if any("{" in word for word in words) else words


def expected_kernel(
    argv: Sequence[str], env: Mapping[str, str], python: str, preload: Sequence[str] = ()
) -> str:
    """What an agent can prepare before the server asks for the kernel, in JSON
    (agent/forking/first_template.py).

    It contains only the kernelspec's argv and environment. "" if the interpreter, its flags, its
    module or its environment depend on the kernel.
    """
    if not expected_argv(argv) or any("{" in text for text in env.values()):
        return ""
    expected = {"argv": list(argv), "env": dict(env), "python": python, "preload": list(preload)}
    return json.dumps(expected)


def expected_on(spec: HostSpec, request: LaunchRequest) -> str:
    """The same for a host of the inventory; "" if a hook changes the environment there."""
    return (
        "" if spec.hook else expected_kernel(request.argv, request.env, spec.python, spec.preload)
    )
