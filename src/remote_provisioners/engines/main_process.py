"""The command of a kernel's container: agent/bootstrap/container_init.py as words for Python."""

from __future__ import annotations

import base64
import functools
import importlib.resources
import json
import zlib

from ..agent.bootstrap.head_start import TEMPLATE_DESCRIPTOR
from ..agent.forking.forkable import flags_of
from ..agent.forking.template_program import program_text
from ..options.expected import expected_argv
from ..options.launch_request import LaunchRequest

# f"'{...}'" is an expression with or without the outer quotes, which a shell removes. The text in
# it has no quotes and no character that a shell expands within quotes.
_QUOTED = "f\"'{{exec(bytes(({codes})).decode())}}'\""
#: What the head start needs, by its names for them.
_MODULES = {
    "head_start": ("agent", "bootstrap", "head_start.py"),
    "find_or_start": ("agent", "bootstrap", "find_or_start.py"),
    "environment": ("agent", "kernels", "environment.py"),
}


def main_process(
    python: str, request: LaunchRequest | None = None, through_shell: bool = False
) -> tuple[str, ...]:
    """The words of the container's command. `request`: the kernel that the container is for.

    `through_shell`: a shell may read the words before the container gets them.
    """
    source = _source("agent", "bootstrap", "container_init.py")
    if through_shell:
        source = _QUOTED.format(codes=",".join(map(str, source.encode("ascii"))))
    words = (python or "python3", "-I", "-S", "-c", source)
    expected = _head_start(request, python) if request is not None else ""
    return (*words, expected) if expected else words


def _head_start(request: LaunchRequest, python: str) -> str:
    """What agent/bootstrap/head_start.py needs, as one word without a character that a shell reads.

    "" if there must be no head start. So it is with a kernelspec's `env`, which may contain
    secrets: all users of the machine can read the words.
    """
    argv = expected_argv(request.argv)
    flags = flags_of(argv) if argv else None
    if flags is None or request.env:
        return ""
    expected = {name: _source(*path) for name, path in _MODULES.items()}
    program = program_text(TEMPLATE_DESCRIPTOR, ())
    expected |= {"program": program}
    content = {**expected, "argv": argv, "flags": flags, "python": python}
    return base64.b64encode(zlib.compress(json.dumps(content).encode(), 9)).decode()


@functools.cache
def _source(*path: str) -> str:
    package = importlib.resources.files("remote_provisioners")
    return package.joinpath(*path).read_text("utf-8")
