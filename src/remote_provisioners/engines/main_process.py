"""The command of a kernel's container: agent/container_init.py as words for Python."""

from __future__ import annotations

import functools
import importlib.resources

# f"'{...}'" is an expression with or without the outer quotes, which a shell removes. The text in
# it has no quotes and no character that a shell expands within quotes.
_QUOTED = "f\"'{{exec(bytes(({codes})).decode())}}'\""


def main_process(python: str, through_shell: bool = False) -> tuple[str, ...]:
    """The words. `through_shell`: a shell may read them on their way."""
    source = _source()
    if through_shell:
        source = _QUOTED.format(codes=",".join(map(str, source.encode("ascii"))))
    return (python or "python3", "-I", "-S", "-c", source)


@functools.cache
def _source() -> str:
    package = importlib.resources.files("remote_provisioners")
    return (package / "agent" / "container_init.py").read_text("utf-8")
