"""What can be prepared for a kernel before the server asks for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def expected_argv(argv: Sequence[str]) -> list[str]:
    """The interpreter of a kernel, its flags and its module; empty if they depend on the kernel."""
    words = list(argv[: argv.index("-m") + 2]) if "-m" in argv else []
    return [] if any("{" in word for word in words) else words
